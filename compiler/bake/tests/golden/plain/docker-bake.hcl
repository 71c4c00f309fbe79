target "default" {
  dockerfile = "Dockerfile.web"
  context = "./web/"
  tags = ["a", "b", "a", ""]
  args = { A = 1, B = true, "C" = "x", D = null, E: "colon" }
  labels = { "org.x" = "y" }
  description = "the one"
}
