variable "REPO" { default = "user/repo" }
function "tag" {
  params = [tag]
  result = ["${REPO}:${tag}", lower("GHCR.io/${REPO}:${tag}")]
}
function "sum" {
  params = [first]
  variadic_params = rest
  result = first + length(rest) + max(rest...)
}
function "nested" {
  params = []
  result = tag("n")[0]
}
target "default" {
  tags = concat(tag("v1"), tag("latest"))
  args = { SUM = sum(1, 2, 3), N = nested() }
}
