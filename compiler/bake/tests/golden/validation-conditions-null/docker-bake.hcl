variable "V" {
  type = string
  validation {
    condition = V
    error_message = "x"
  }
}
target "default" {}
