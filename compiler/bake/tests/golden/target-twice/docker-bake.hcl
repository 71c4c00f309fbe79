target "default" {
  tags = ["a"]
  args = { A = "1" }
}
target "default" {
  tags = ["b"]
  args = { B = "1" }
}
