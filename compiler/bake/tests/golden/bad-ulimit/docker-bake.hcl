target "default" { ulimits = ["many"] }
