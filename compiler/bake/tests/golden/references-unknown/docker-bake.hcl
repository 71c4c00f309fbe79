target "default" { tags = [target.nope.args.X] }
