target "default" {
  context = "https://github.com/a/b.git#main:sub"
  contexts = { a = "https://x/y.git", b = "oci-layout://./dir", c = "cwd://x" }
}
