variable "V" { default = "$${literal}" }
target "default" {
  args = { A = V, B = "%%{x}" }
  labels = { L = V }
  tags = ["a"]
}
