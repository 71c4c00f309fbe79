variable "V" { default = "1" }
V = "2"
target "default" { tags = [V] }
