function "f" {
  params = [x]
  result = x
}
target "default" { tags = [f()] }
