variable "A" { type = list(string) }
target "default" { tags = A == null ? ["null"] : A }
