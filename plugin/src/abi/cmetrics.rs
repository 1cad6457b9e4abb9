//! The host's metrics library, where the host exports it.
//!
//! Its maps of labels are not made for several threads: whoever reads metrics
//! (the host's own thread) walks lists that a new label extends. So every
//! combination of labels is made during the outputs' inits, while the host does not
//! read and no other thread changes a value, and from then on only values change,
//! which are atomic.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;

use super::bindings::{
    cmt_add_fn, cmt_create_fn, cmt_histogram_buckets_create_size_fn, cmt_histogram_create_fn,
    cmt_histogram_set_default_fn, flb_output_get_cmt_instance_fn,
};
use super::symbol::symbol;

/// All names begin with `syslog_sink_`.
const NAMESPACE: &CStr = c"syslog";
const SUBSYSTEM: &CStr = c"sink";

/// A context of metrics: that of one output.
pub(crate) struct Registry {
    functions: Functions,
    context: NonNull<c_void>,
    liveness: Liveness,
}

/// Whether a context is there: it ends with its output. Read-locked while values
/// change, write-locked while series are added.
#[derive(Clone, Debug)]
pub(crate) struct Liveness(Arc<RwLock<bool>>);

impl Liveness {
    /// Whether values can still be changed.
    #[must_use]
    pub(crate) fn is_alive(&self) -> bool {
        *self.0.read()
    }

    /// The context is about to go: from now on no value is changed.
    pub(crate) fn end(&self) {
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

/// A counter, a gauge or a histogram.
pub(crate) struct Metric {
    add: cmt_add_fn,
    handle: NonNull<c_void>,
    /// How to set a histogram, and the number of its counts.
    histogram: Option<(cmt_histogram_set_default_fn, usize)>,
    liveness: Liveness,
}

// SAFETY: the host keeps what they point to as long as the context lasts, and
// allows values to be changed from all threads (see the module).
unsafe impl Send for Metric {}
// SAFETY: as above.
unsafe impl Sync for Metric {}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metric").finish_non_exhaustive()
    }
}

/// What a metric is called, and the keys of its labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Description<'a> {
    /// The name, without what all have in common.
    pub name: &'a CStr,
    /// What it says, for people.
    pub help: &'a CStr,
    /// The keys of its labels.
    pub labels: &'a [&'a CStr],
}

impl Registry {
    /// The metrics of an output during its init. None where the host has none.
    pub(super) fn find(output: *mut c_void) -> Option<Self> {
        // SAFETY: these are the types of the functions of these names in every
        // version of Fluent Bit that has them.
        let (get_context, functions) = unsafe {
            let create = |name| std::mem::transmute::<*mut c_void, cmt_create_fn>(symbol(name));
            let add = |name| std::mem::transmute::<*mut c_void, cmt_add_fn>(symbol(name));
            (
                std::mem::transmute::<*mut c_void, flb_output_get_cmt_instance_fn>(symbol(
                    c"flb_output_get_cmt_instance",
                )),
                Functions {
                    counter_create: create(c"cmt_counter_create"),
                    counter_add: add(c"cmt_counter_add"),
                    gauge_create: create(c"cmt_gauge_create"),
                    gauge_add: add(c"cmt_gauge_add"),
                    buckets_create: std::mem::transmute::<
                        *mut c_void,
                        cmt_histogram_buckets_create_size_fn,
                    >(symbol(
                        c"cmt_histogram_buckets_create_size",
                    )),
                    histogram_create: std::mem::transmute::<*mut c_void, cmt_histogram_create_fn>(
                        symbol(c"cmt_histogram_create"),
                    ),
                    histogram_observe: add(c"cmt_histogram_observe"),
                    histogram_set: std::mem::transmute::<*mut c_void, cmt_histogram_set_default_fn>(
                        symbol(c"cmt_histogram_set_default"),
                    ),
                },
            )
        };
        if output.is_null() {
            return None;
        }
        // SAFETY: the output is the host's own, during its init.
        let context = NonNull::new(unsafe { get_context?(output) })?;
        Some(Self {
            functions,
            context,
            liveness: Liveness(Arc::new(RwLock::new(true))),
        })
    }

    /// Ends the use of all its metrics.
    #[must_use]
    pub(crate) fn liveness(&self) -> Liveness {
        self.liveness.clone()
    }

    /// Makes a counter.
    #[must_use]
    pub(crate) fn counter(&self, description: Description<'_>) -> Option<Metric> {
        let functions = &self.functions;
        self.create(functions.counter_create, functions.counter_add, description)
    }

    /// Makes a gauge.
    #[must_use]
    pub(crate) fn gauge(&self, description: Description<'_>) -> Option<Metric> {
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
        // SAFETY: the texts end with zeros and are copied; the keys are as many
        // as is said.
        let metric = unsafe {
            create?(
                self.context.as_ptr(),
                NAMESPACE.as_ptr().cast_mut(),
                SUBSYSTEM.as_ptr().cast_mut(),
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

    /// Makes a histogram with these upper bounds, which rise.
    #[must_use]
    pub(crate) fn histogram(&self, description: Description<'_>, bounds: &[f64]) -> Option<Metric> {
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
        // SAFETY: as in `create`; bounds are copied, and the histogram owns the
        // buckets.
        let metric = unsafe {
            let buckets = buckets_create?(bounds.as_mut_ptr(), bounds.len());
            histogram_create?(
                self.context.as_ptr(),
                NAMESPACE.as_ptr().cast_mut(),
                SUBSYSTEM.as_ptr().cast_mut(),
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
    /// Adds the series that has these labels, at zero. To be called during an output's
    /// init only.
    pub(crate) fn prepare(&self, labels: &[&CStr]) {
        // Nobody else may read the map while it grows.
        let is_alive = self.liveness.0.write();
        if !*is_alive {
            return;
        }
        let Some((Some(set), counts)) = self.histogram else {
            // SAFETY: the context is there, and `liveness` is locked.
            return unsafe { self.call(0.0, labels) };
        };
        let mut values = pointers(labels);
        let mut counts = vec![0; counts];
        // SAFETY: as above; there are as many counts as the histogram has.
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

    /// Adds to the value that has these labels; a histogram counts `amount` in
    /// its bucket.
    pub(crate) fn add(&self, amount: f64, labels: &[&CStr]) {
        let is_alive = self.liveness.0.read();
        if *is_alive {
            // SAFETY: the context is there, and `liveness` is locked.
            unsafe { self.call(amount, labels) };
        }
    }

    /// Calls the host's function.
    ///
    /// # Safety
    ///
    /// The context is there, and `liveness` stays locked until this returns.
    unsafe fn call(&self, amount: f64, labels: &[&CStr]) {
        let Some(add) = self.add else {
            return;
        };
        let mut values = pointers(labels);
        // SAFETY: the caller's promise.
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

/// Nanoseconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// A label's value. A zero cannot be in one.
#[must_use]
pub(crate) fn label(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}
