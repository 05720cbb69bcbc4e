// storage-suite runs the specs by which Kubernetes judges storage drivers, on the drivers defined by the files of
// --storage.testdriver. It is the part of Kubernetes' e2e.test that needs nothing but an API server and one node.
package main

import (
	"flag"
	"os"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"k8s.io/kubernetes/test/e2e/framework"
	"k8s.io/kubernetes/test/e2e/framework/config"
	"k8s.io/kubernetes/test/e2e/framework/testfiles"
	e2etestingmanifests "k8s.io/kubernetes/test/e2e/testing-manifests"

	_ "k8s.io/kubernetes/test/e2e/framework/debug/init"
	_ "k8s.io/kubernetes/test/e2e/storage/external"
)

// verdict becomes true if a spec fails, as testing.T does under `go test`.
type verdict bool

func (failed *verdict) Fail() { *failed = true }

func main() {
	config.CopyFlags(config.Flags, flag.CommandLine)
	framework.RegisterCommonFlags(flag.CommandLine)
	framework.RegisterClusterFlags(flag.CommandLine)
	flag.Parse()
	testfiles.AddFileSource(e2etestingmanifests.GetE2ETestingManifestsFS())
	framework.AfterReadingAllFlags(&framework.TestContext)
	gomega.RegisterFailHandler(framework.Fail)

	suite, reporter := framework.CreateGinkgoConfig()
	var failed verdict
	ginkgo.RunSpecs(&failed, "Kubernetes storage suite", suite, reporter)
	if failed {
		os.Exit(1)
	}
}
