target "_p" { description = "hidden" }
target "a" {
  inherits = ["_p"]
}
