//! Access to the sinks in a cluster.

use api::{ClusterLogSink, LogSink, LogSinkSpec, SinkStatus};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, PostParams, Request};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, Resource};
use serde_json::Value;

use crate::cli::Access;
use crate::failure::Failure;

/// A connection to a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The default namespace.
    pub(crate) namespace: String,
}

/// A set of sinks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The `LogSink`s of a namespace.
    Namespace(String),
    /// The `LogSink`s of all namespaces.
    AllNamespaces,
    /// The `ClusterLogSink`s.
    Cluster,
}

impl Scope {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) | Self::AllNamespaces => "LogSink",
            Self::Cluster => "ClusterLogSink",
        }
    }

    /// Returns the kind and full name of a sink.
    pub(crate) fn name(&self, name: &str) -> String {
        match self {
            Self::Namespace(namespace) => format!("LogSink {namespace}/{name}"),
            Self::AllNamespaces | Self::Cluster => format!("{} {name}", self.kind()),
        }
    }

    fn request(&self) -> Request {
        Request::new(match self {
            Self::Namespace(namespace) => LogSink::url_path(&(), Some(namespace)),
            Self::AllNamespaces => LogSink::url_path(&(), None),
            Self::Cluster => ClusterLogSink::url_path(&(), None),
        })
    }
}

/// A sink as JSON, of which only the requested fields are read: an invalid one does not
/// break a list.
#[derive(Clone, Debug)]
pub(crate) struct Sink(pub(crate) Value);

impl Sink {
    /// Removes `managedFields`, as kubectl does.
    fn new(mut object: Value) -> Self {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata {
            metadata.remove("managedFields");
        }
        Self(object)
    }

    /// Returns a string of the object; empty if there is none.
    pub(crate) fn text(&self, pointer: &str) -> &str {
        let found = self.0.pointer(pointer).and_then(Value::as_str);
        found.unwrap_or_default()
    }

    pub(crate) fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Returns the namespace; empty for a `ClusterLogSink`.
    pub(crate) fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    pub(crate) fn created(&self) -> Option<Timestamp> {
        self.text("/metadata/creationTimestamp").parse().ok()
    }

    pub(crate) fn is_cluster_scoped(&self) -> bool {
        self.text("/kind") == Scope::Cluster.kind()
    }

    /// Returns the part of the spec with the fields of a `LogSink`.
    pub(crate) fn sink(&self) -> &Value {
        let pointer = if self.is_cluster_scoped() {
            "/spec/sink"
        } else {
            "/spec"
        };
        self.0.pointer(pointer).unwrap_or(&Value::Null)
    }

    pub(crate) fn spec(&self) -> Result<LogSinkSpec, Failure> {
        serde_json::from_value(self.sink().clone()).map_err(|error| {
            let name = self.name();
            Failure::new(format!("the spec of {name} cannot be read: {error}"))
        })
    }

    /// Returns the status; empty if the controller has not written one.
    pub(crate) fn status(&self) -> SinkStatus {
        let status = self.0.get("status").cloned();
        let status = status.and_then(|status| serde_json::from_value(status).ok());
        status.unwrap_or_default()
    }
}

impl Cluster {
    pub(crate) async fn connect(access: &Access) -> Result<Self, Failure> {
        let unusable = |error: &dyn std::error::Error| {
            Failure::new(format!("cannot connect to a cluster: {error}"))
        };
        let options = KubeConfigOptions {
            context: access.context.clone(),
            ..KubeConfigOptions::default()
        };
        let config = match &access.kubeconfig {
            Some(file) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(|e| unusable(&e))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await
            }
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(|error| unusable(&error))?;
        let namespace = access.namespace.clone();
        Ok(Self {
            namespace: namespace.unwrap_or_else(|| config.default_namespace.clone()),
            client: Client::try_from(config).map_err(|error| unusable(&error))?,
        })
    }

    /// Returns the scope of a kind of sink.
    pub(crate) fn scope(&self, is_cluster_scoped: bool) -> Scope {
        if is_cluster_scoped {
            Scope::Cluster
        } else {
            Scope::Namespace(self.namespace.clone())
        }
    }

    pub(crate) async fn list(&self, scope: &Scope) -> Result<Vec<Sink>, Failure> {
        let what = format!("cannot list {}s", scope.kind());
        let request = scope.request().list(&ListParams::default());
        let mut list = self.ask(&what, request).await?;
        let items = list.get_mut("items").map(Value::take);
        let Some(Value::Array(items)) = items else {
            return Ok(Vec::new());
        };
        let version = LogSink::api_version(&());
        let items = items.into_iter();
        let items = items.map(|item| of_list(item, &version, scope.kind()));
        Ok(items.map(Sink::new).collect())
    }

    pub(crate) async fn get(&self, scope: &Scope, name: &str) -> Result<Sink, Failure> {
        let what = format!("cannot get the {}", scope.name(name));
        let request = scope.request().get(name, &kube::api::GetParams::default());
        self.ask(&what, request).await.map(Sink::new)
    }

    pub(crate) async fn create(&self, scope: &Scope, object: &Value) -> Result<Sink, Failure> {
        let name = object.pointer("/metadata/name").and_then(Value::as_str);
        let what = format!("cannot create the {}", scope.name(name.unwrap_or_default()));
        let body = object.to_string().into_bytes();
        let parameters = PostParams {
            field_manager: Some("kubectl-sink".to_owned()),
            ..PostParams::default()
        };
        let request = scope.request().create(&parameters, body);
        self.ask(&what, request).await.map(Sink::new)
    }

    pub(crate) async fn delete(&self, scope: &Scope, name: &str) -> Result<(), Failure> {
        let what = format!("cannot delete the {}", scope.name(name));
        let request = scope.request().delete(name, &DeleteParams::default());
        self.ask(&what, request).await.map(drop)
    }

    async fn ask(
        &self,
        what: &str,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, Failure> {
        let answered = match request {
            Ok(request) => self.client.request(request).await,
            Err(error) => Err(kube::Error::BuildRequest(error)),
        };
        answered.map_err(Failure::api(what))
    }
}

/// Completes an item of a list, which has no `apiVersion` and `kind` of its own.
pub(crate) fn of_list(mut item: Value, version: &str, kind: &str) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.insert("apiVersion".to_owned(), version.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    item
}
