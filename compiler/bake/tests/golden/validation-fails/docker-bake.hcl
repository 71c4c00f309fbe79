variable "V" {
  default = "latest"
  validation {
    condition = V != ""
    error_message = "V must not be empty."
  }
  validation {
    condition = can(regex("^[a-z0-9.]+$", V))
    error_message = "V is odd."
  }
}
target "default" { tags = ["app:${V}"] }
