group "default" { targets = ["app"] }
target "app" {
  name = "app-${x}-${replace(y, ".", "-")}"
  matrix = {
    x = ["foo"]
    y = ["1.0", "2.0"]
  }
  target = x
  args = { V = y }
}
