target "app" {
  name = "app-${item.tgt}"
  matrix = {
    item = [
      { tgt = "foo", version = "1.0" },
      { tgt = "bar", version = "2.0" },
    ]
  }
  args = { VERSION = item.version }
}
