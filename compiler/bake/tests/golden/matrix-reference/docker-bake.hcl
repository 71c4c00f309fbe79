target "app" {
  name = "app-${v}"
  matrix = { v = ["a", "b"] }
  tags = ["t:${v}"]
}
target "default" {
  contexts = { for v in ["a", "b"] : v => "target:app-${v}" }
  args = { T = target.app-a.tags[0] }
}
