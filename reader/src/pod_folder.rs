//! The kubelet's folder of a pod's logs, whose name identifies the pod. Tenants cannot write it.

/// The name of a pod's folder, `<namespace>_<pod>_<uid>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodFolder {
    /// The namespace of the pod.
    pub namespace: String,
    /// The name of the pod.
    pub pod: String,
    /// The UID of the pod; of a static pod, the hash of its manifest.
    pub uid: String,
}

/// The maximum lengths of the names of a namespace, a pod and a container.
const NAMESPACE: usize = 63;
const POD: usize = 253;
const CONTAINER: usize = 63;

impl PodFolder {
    /// Parses the name of a folder. Returns `None` for other folders: names in Kubernetes
    /// contain no underscore.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('_');
        let (namespace, pod, uid) = (parts.next()?, parts.next()?, parts.next()?);
        let is_uid = (1..=64).contains(&uid.len())
            && uid
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        let is_valid = parts.next().is_none()
            && is_label(namespace, NAMESPACE)
            && is_subdomain(pod, POD)
            && is_uid;
        is_valid.then(|| Self {
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            uid: uid.to_owned(),
        })
    }
}

/// Returns whether a folder in that of a pod can be one of a container.
#[must_use]
pub fn is_container(name: &str) -> bool {
    is_label(name, CONTAINER)
}

/// Returns whether a text is a label of RFC 1123.
fn is_label(text: &str, max: usize) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=max).contains(&text.len())
        && text.bytes().all(is_allowed)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Returns whether a text is a subdomain of RFC 1123: labels separated by dots.
fn is_subdomain(text: &str, max: usize) -> bool {
    text.len() <= max && text.split('.').all(|label| is_label(label, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_identifies_the_pod() {
        let folder = PodFolder::parse("shop_web-0.a_2f6b0c9e-0000-4000-8000-000000000001");
        let folder = folder.unwrap();
        assert_eq!((&*folder.namespace, &*folder.pod), ("shop", "web-0.a"));
        let static_pod = "kube-system_etcd-node-1_0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b5a";
        assert!(PodFolder::parse(static_pod).is_some());
    }

    #[test]
    fn other_folders_are_not_those_of_pods() {
        for name in [
            "",
            "shop",
            "shop_web",
            "shop_web_",
            "shop_web_1_2",
            "Shop_web_1",
            "-shop_web_1",
            "shop_web._1",
            "shop_.._1",
            "shop_web_../x",
        ] {
            assert_eq!(PodFolder::parse(name), None, "{name}");
        }
        assert!(is_container("app-1") && !is_container("..") && !is_container("a_b"));
    }
}
