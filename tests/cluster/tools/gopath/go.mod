module github.com/svid-csi/svid-csi/gopath

go 1.26.0

tool github.com/svid-csi/svid-csi/gopath
