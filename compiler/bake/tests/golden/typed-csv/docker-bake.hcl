variable "MAP" {
  type = map(number)
  default = { a = 1 }
}
variable "SET" {
  type = set(string)
  default = ["b", "a", "b"]
}
variable "TUP" {
  type = tuple([string, number, bool])
  default = ["a", 1, true]
}
variable "OBJ" {
  type = object({ name = string, port = optional(number) })
  default = { name = "n" }
}
variable "LOL" {
  type = list(list(string))
  default = [["a"], ["b", "c"]]
}
variable "ANY" {
  type = any
  default = [1, "two"]
}
target "default" {
  args = {
    MAP = jsonencode(MAP)
    SET = jsonencode(SET)
    TUP = jsonencode(TUP)
    OBJ = jsonencode(OBJ)
    LOL = jsonencode(LOL)
    ANY = jsonencode(ANY)
  }
}
