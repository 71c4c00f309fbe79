variable "V" { default = "1" }
variable "V" { default = "2" }
target "default" { tags = [V] }
