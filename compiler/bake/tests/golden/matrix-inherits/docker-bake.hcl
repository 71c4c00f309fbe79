variable "VERSIONS" { default = ["1", "2"] }
target "_common" { labels = { a = "b" } }
target "app" {
  name = "app-${v}"
  matrix = { v = VERSIONS }
  inherits = ["_common"]
  args = { V = v }
}
target "all" {
  contexts = { for v in VERSIONS : "app-${v}" => "target:app-${v}" }
}
