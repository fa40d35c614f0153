module dirigent/baseline/kwok

go 1.21

require sigs.k8s.io/kwok v0.5.2
