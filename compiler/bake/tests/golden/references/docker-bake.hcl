target "base" {
  context = "./x"
  args = { A = "1" }
  tags = ["t:${target.base.args.A}"]
  platforms = ["linux/amd64", "linux/arm64"]
}
target "default" {
  args = {
    CTX = target.base.context
    A = target.base.args.A
    TAG = target.base.tags[0]
    NOPE = target.base.target == null
    N = length(target.base.platforms)
  }
  labels = target.base.args
}
