function "f" {
  params = []
  result = "made"
}
variable "A" { default = f() }
target "default" { tags = [A] }
