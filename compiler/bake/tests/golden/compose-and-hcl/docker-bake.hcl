target "app" {
  args = { B = "2" }
  tags = ["hcl"]
}
target "own" { inherits = ["app"] }
group "default" { targets = ["app", "own"] }
