variable "A" {
  type = any
  default = "x"
}
target "default" { tags = [A] }
