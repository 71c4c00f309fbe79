variable "STR" { default = "def" }
variable "NUM" { default = 5 }
variable "BOOL" { default = false }
variable "LIST" {
  type = list(string)
  default = ["a"]
}
variable "NULL" { default = null }
variable "NONE" {}
variable "TYPED" { type = string }
variable "OTHER" { default = "${STR}-other" }
target "default" {
  args = {
    STR = STR
    NUM = NUM + 1
    BOOL = BOOL ? "yes" : "no"
    LIST = join("/", LIST)
    NULL = NULL
    NONE = "[${NONE}]"
    TYPED = TYPED
    OTHER = OTHER
    BUILTIN = BAKE_CMD_CONTEXT
  }
}
