variable "O" {
  default = {
    "quoted key" = 1
    bare = 2
    (upper("c")) = 3
    nested = { x = [1, 2, { y = "z" }] }
  }
}
target "default" {
  args = {
    A = O["quoted key"]
    B = O.bare
    C = O.C
    D = O.nested.x[2].y
    E = jsonencode(O)
    F = length(keys(O))
    G = O["nested"]["x"][0] + O.bare
  }
}
