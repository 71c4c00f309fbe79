target "base" {}
target "default" { contexts = { b = "target:base" } }
