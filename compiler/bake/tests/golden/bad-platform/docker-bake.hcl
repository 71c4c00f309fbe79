target "default" { platforms = ["linux//"] }
