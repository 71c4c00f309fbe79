variable "FOO" { default = "x" }
variable "FOO_JSON" {
  type = list(string)
  default = ["d"]
}
target "default" { tags = concat([FOO], FOO_JSON) }
