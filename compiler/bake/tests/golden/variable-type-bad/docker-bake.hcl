variable "A" { type = strng }
target "default" {}
