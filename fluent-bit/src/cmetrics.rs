//! The metrics library of the host (cmetrics), if the host exports it.
//!
//! The library's maps of labels are not thread-safe: the host's thread reads the metrics
//! by walking lists that new labels extend. Therefore all combinations of labels are
//! added during the instances' inits, when the host does not read the metrics and no other
//! thread changes a value. Afterwards only values change, which are atomic.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::mem::transmute;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;

use crate::bindings::{
    cmt_add_fn, cmt_create_fn, cmt_histogram_buckets_create_size_fn, cmt_histogram_create_fn,
    cmt_histogram_set_default_fn,
};
use crate::instance::Instance;
use crate::symbol::symbol;

/// The common prefix of a plugin's metrics, such as `syslog_sink_`.
#[derive(Clone, Copy, Debug)]
pub struct Prefix {
    /// The first part.
    pub namespace: &'static CStr,
    /// The second part.
    pub subsystem: &'static CStr,
}

/// The cmetrics context of an instance, in which metrics can be created.
pub struct Registry {
    functions: Functions,
    prefix: Prefix,
    context: NonNull<c_void>,
    liveness: Liveness,
}

/// Whether a context still exists: the host frees it with its instance. The lock is held
/// for reading while a value changes, and for writing while a series is added.
#[derive(Clone, Debug)]
pub struct Liveness(Arc<RwLock<bool>>);

impl Liveness {
    /// Whether the context still exists.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        *self.0.read()
    }

    /// Marks the context as ended, before the host frees it. Values do not change
    /// afterwards.
    pub fn end(&self) {
        *self.0.write() = false;
    }
}

#[derive(Clone, Copy)]
struct Functions {
    counter_create: cmt_create_fn,
    counter_add: cmt_add_fn,
    gauge_create: cmt_create_fn,
    gauge_add: cmt_add_fn,
    buckets_create: cmt_histogram_buckets_create_size_fn,
    histogram_create: cmt_histogram_create_fn,
    histogram_observe: cmt_add_fn,
    histogram_set: cmt_histogram_set_default_fn,
}

impl Functions {
    /// Looks up the functions.
    fn find() -> Self {
        // SAFETY: in every version of Fluent Bit that has these functions, they have
        // these types.
        unsafe {
            let create = |name| transmute::<*mut c_void, cmt_create_fn>(symbol(name));
            let add = |name| transmute::<*mut c_void, cmt_add_fn>(symbol(name));
            Self {
                counter_create: create(c"cmt_counter_create"),
                counter_add: add(c"cmt_counter_add"),
                gauge_create: create(c"cmt_gauge_create"),
                gauge_add: add(c"cmt_gauge_add"),
                buckets_create: transmute::<*mut c_void, cmt_histogram_buckets_create_size_fn>(
                    symbol(c"cmt_histogram_buckets_create_size"),
                ),
                histogram_create: transmute::<*mut c_void, cmt_histogram_create_fn>(symbol(
                    c"cmt_histogram_create",
                )),
                histogram_observe: add(c"cmt_histogram_observe"),
                histogram_set: transmute::<*mut c_void, cmt_histogram_set_default_fn>(symbol(
                    c"cmt_histogram_set_default",
                )),
            }
        }
    }
}

/// A counter, a gauge or a histogram.
pub struct Metric {
    add: cmt_add_fn,
    handle: NonNull<c_void>,
    /// For a histogram, the function that sets its values, and the number of its counts.
    histogram: Option<(cmt_histogram_set_default_fn, usize)>,
    liveness: Liveness,
}

// SAFETY: the host keeps the metric as long as the context exists, and allows changes of
// values from all threads (see the module).
unsafe impl Send for Metric {}
// SAFETY: as above.
unsafe impl Sync for Metric {}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metric").finish_non_exhaustive()
    }
}

/// The description of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Description<'a> {
    /// The name, without the common prefix.
    pub name: &'a CStr,
    /// The help text.
    pub help: &'a CStr,
    /// The keys of the labels.
    pub labels: &'a [&'a CStr],
}

impl Registry {
    /// Returns the registry of an instance, or `None` if the host does not support metrics.
    /// Must be called during the instance's init.
    pub(crate) fn find(instance: Instance, prefix: Prefix) -> Option<Self> {
        Some(Self {
            functions: Functions::find(),
            prefix,
            context: instance.metrics_context()?,
            liveness: Liveness(Arc::new(RwLock::new(true))),
        })
    }

    /// Returns the liveness that the registry shares with all of its metrics.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Creates a counter.
    #[must_use]
    pub fn counter(&self, description: Description<'_>) -> Option<Metric> {
        let functions = &self.functions;
        self.create(functions.counter_create, functions.counter_add, description)
    }

    /// Creates a gauge.
    #[must_use]
    pub fn gauge(&self, description: Description<'_>) -> Option<Metric> {
        let functions = &self.functions;
        self.create(functions.gauge_create, functions.gauge_add, description)
    }

    fn create(
        &self,
        create: cmt_create_fn,
        add: cmt_add_fn,
        description: Description<'_>,
    ) -> Option<Metric> {
        let Description { name, help, labels } = description;
        let mut keys = pointers(labels);
        // SAFETY: the host copies the C strings, and the count of keys is correct.
        let metric = unsafe {
            create?(
                self.context.as_ptr(),
                self.prefix.namespace.as_ptr().cast_mut(),
                self.prefix.subsystem.as_ptr().cast_mut(),
                name.as_ptr().cast_mut(),
                help.as_ptr().cast_mut(),
                keys.len() as c_int,
                keys.as_mut_ptr(),
            )
        };
        Some(Metric {
            add,
            handle: NonNull::new(metric)?,
            histogram: None,
            liveness: self.liveness(),
        })
    }

    /// Creates a histogram with upper bounds in ascending order.
    #[must_use]
    pub fn histogram(&self, description: Description<'_>, bounds: &[f64]) -> Option<Metric> {
        let Functions {
            buckets_create,
            histogram_create,
            histogram_observe,
            histogram_set,
            ..
        } = self.functions;
        histogram_set?;
        let mut bounds = bounds.to_vec();
        let mut keys = pointers(description.labels);
        // SAFETY: as in `create`. The host copies the bounds, and the histogram owns the
        // buckets.
        let metric = unsafe {
            let buckets = buckets_create?(bounds.as_mut_ptr(), bounds.len());
            histogram_create?(
                self.context.as_ptr(),
                self.prefix.namespace.as_ptr().cast_mut(),
                self.prefix.subsystem.as_ptr().cast_mut(),
                description.name.as_ptr().cast_mut(),
                description.help.as_ptr().cast_mut(),
                buckets,
                keys.len() as c_int,
                keys.as_mut_ptr(),
            )
        };
        Some(Metric {
            add: histogram_observe,
            handle: NonNull::new(metric)?,
            histogram: Some((histogram_set, bounds.len() + 1)),
            liveness: self.liveness(),
        })
    }
}

impl Metric {
    /// Adds the series with these labels, with the value zero. Must be called only during
    /// an instance's init.
    pub fn prepare(&self, labels: &[&CStr]) {
        // The map must not be read while it grows.
        let is_alive = self.liveness.0.write();
        if !*is_alive {
            return;
        }
        let Some((Some(set), counts)) = self.histogram else {
            // SAFETY: the context exists, and `liveness` is locked.
            return unsafe { self.call(0.0, labels) };
        };
        let mut values = pointers(labels);
        let mut counts = vec![0; counts];
        // SAFETY: as above, and the number of counts is that of the histogram.
        unsafe {
            set(
                self.handle.as_ptr(),
                now(),
                counts.as_mut_ptr(),
                0.0,
                0,
                values.len() as c_int,
                values.as_mut_ptr(),
            );
        }
    }

    /// Adds `amount` to the series with these labels. A histogram observes `amount`.
    pub fn add(&self, amount: f64, labels: &[&CStr]) {
        let is_alive = self.liveness.0.read();
        if *is_alive {
            // SAFETY: the context exists, and `liveness` is locked.
            unsafe { self.call(amount, labels) };
        }
    }

    /// Calls the host's function that adds to a series.
    ///
    /// # Safety
    ///
    /// The context must exist, and `liveness` must stay locked until this returns.
    unsafe fn call(&self, amount: f64, labels: &[&CStr]) {
        let Some(add) = self.add else {
            return;
        };
        let mut values = pointers(labels);
        // SAFETY: guaranteed by the caller.
        unsafe {
            add(
                self.handle.as_ptr(),
                now(),
                amount,
                values.len() as c_int,
                values.as_mut_ptr(),
            );
        }
    }
}

fn pointers(texts: &[&CStr]) -> Vec<*mut c_char> {
    texts.iter().map(|text| text.as_ptr().cast_mut()).collect()
}

/// Returns the nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// Converts a label's value to a C string, with spaces instead of NUL.
#[must_use]
pub fn label(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}
