variable "V" { default = "2" }
group "default" { targets = ["app", "lib"] }
target "app" {
  args = { B = "2" }
  no-cache = true
}
