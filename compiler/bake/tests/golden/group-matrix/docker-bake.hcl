group "g" {
  matrix = { a = ["1"] }
  targets = ["a"]
}
target "a" {}
