variable "DEBUG" { default = "" }
target "default" {
  tags = [notequal("", DEBUG) ? "x" : "", DEBUG == "" ? "y" : null]
  args = DEBUG == "1" ? { A = "1" } : {}
  output = DEBUG == "1" ? ["type=docker"] : []
}
