target "app" {
  name = "x"
  matrix = { a = "b" }
}
