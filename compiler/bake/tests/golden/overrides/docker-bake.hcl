variable "V" { default = "1" }
group "default" { targets = ["app"] }
target "app" {
  tags = ["app:${V}"]
  args = { A = "1", B = "1" }
}
target "lib" {}
