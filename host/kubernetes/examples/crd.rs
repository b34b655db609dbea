//! Prints the custom resource definition: `charts/lanner/crds/alertfilters.lanner.dev.yaml` is what it says.

use kube::CustomResourceExt;
use lanner_kubernetes::AlertFilter;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    print!("{}", serde_saphyr::to_string(&AlertFilter::crd())?);
    Ok(())
}
