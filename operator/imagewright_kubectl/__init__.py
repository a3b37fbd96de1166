"""``kubectl imagewright``: what people do with ImageBuilds, from wherever their kubeconfig is."""
