variable "V" { default = "global" }
function "f" {
  params = [V]
  result = "${V}!"
}
target "default" {
  name = "t-${V}"
  matrix = { V = ["one"] }
  tags = [f(V), f("x")]
}
