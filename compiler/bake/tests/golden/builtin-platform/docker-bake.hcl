target "default" { platforms = [BAKE_LOCAL_PLATFORM] }
