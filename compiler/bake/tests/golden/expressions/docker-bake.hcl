variable "L" { default = ["a", "b", "c"] }
variable "M" { default = { x = "1", y = "2" } }
target "default" {
  args = {
    cond = 1 < 2 && !false ? "t" : "f"
    cond2 = 1 == 1.0
    cond3 = "1" == 1
    math = (1 + 2) * 3 - 4 / 2 % 3
    neg = -5
    div = 1 / 8
    for1 = join(",", [for x in L : upper(x)])
    for2 = join(",", [for i, x in L : "${i}${x}" if i > 0])
    for3 = jsonencode({ for k, v in M : k => "${v}!" })
    for4 = jsonencode({ for x in ["ab", "ac", "b"] : substr(x, 0, 1) => x... })
    splat = join(",", [{ n = "p" }, { n = "q" }][*].n)
    attrsplat = join(",", [{ n = "p" }, { n = "q" }].*.n)
    index = L[1]
    legacy = L.2
    key = M["x"]
    attr = M.y
    heredoc = <<EOT
line ${L[0]}
  two
EOT
    indented = <<-EOT
      a
        b
    EOT
    tmpl = "%{ if true }yes%{ else }no%{ endif } %{ for x in L ~} ${x} %{ endfor }"
    strip = "a ${~ "b" ~} c"
    escape = "$${x} %%{y} \"q\" \u00e9 \t"
    big = 12345678901234567890 * 10
    float = 1.50
    exp = 1e3
    paren = (
      "multi"
    )
    nested = { a = [1, { b = "deep" }] }["a"][1].b
    null = null == null
    tolist = jsonencode([1, "a", true, null])
  }
}
