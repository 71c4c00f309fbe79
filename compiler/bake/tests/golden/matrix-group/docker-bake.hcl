group "default" { targets = ["app", "x"] }
target "app" {
  name = "app-${v}"
  matrix = { v = ["a", "b"] }
}
target "x" {}
