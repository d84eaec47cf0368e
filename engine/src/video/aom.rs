//! The one file that calls libaom: a codec context as a value that frees itself.

use super::{
    encoder::{EncodedPicture, KeyFrame},
    scalability::{LayerFrame, TEMPORAL_LAYERS},
};
use crate::media::{MediaError, VideoFrame};
use bytes::Bytes;
use libaom_sys as aom;
use std::{
    ffi::{CStr, c_int, c_uint},
    mem::MaybeUninit,
    ptr,
};

/// How a context is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bitrate_kbps: u32,
    /// Ticks in a second.
    pub(super) timebase: u32,
    pub(super) screen: bool,
    /// Colours by BT.709, else BT.601.
    pub(super) bt709: bool,
    /// 5 (best) to 11 (fastest).
    pub(super) speed: c_int,
    pub(super) threads: u32,
}

/// An open encoder.
pub(super) struct Context {
    // Boxed: libaom keeps pointers into it.
    codec: Box<aom::aom_codec_ctx_t>,
    config: aom::aom_codec_enc_cfg,
    settings: Settings,
}

// SAFETY: a context has no thread affinity; libaom only asks that calls do not overlap, and all take `&mut self`.
unsafe impl Send for Context {}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Context {
    pub(super) fn new(settings: Settings) -> Result<Self, MediaError> {
        let config = config(settings)?;
        let mut codec = Box::new(MaybeUninit::<aom::aom_codec_ctx_t>::zeroed());
        // SAFETY: `codec` is a zeroed context of libaom's own type and outlives the call; `config` was filled by libaom; the
        // ABI version is that of the bindings in use.
        let result = unsafe {
            aom::aom_codec_enc_init_ver(
                codec.as_mut_ptr(),
                aom::aom_codec_av1_cx(),
                &raw const config,
                0,
                aom::AOM_ENCODER_ABI_VERSION as c_int,
            )
        };
        if result != aom::AOM_CODEC_OK {
            let Settings { width, height, .. } = settings;
            return Err(MediaError::new(format!("libaom cannot encode {width}x{height}: {}", describe(result))));
        }
        // SAFETY: it was zeroed and then initialised by libaom, which reported success.
        let codec = unsafe { Box::from_raw(Box::into_raw(codec).cast::<aom::aom_codec_ctx_t>()) };
        let mut context = Self { codec, config, settings };
        context.tune()?;
        Ok(context)
    }

    pub(super) fn size(&self) -> (u32, u32) {
        (self.settings.width, self.settings.height)
    }

    pub(super) fn set_bitrate(&mut self, kbps: u32) -> Result<(), MediaError> {
        self.config.rc_target_bitrate = kbps;
        // SAFETY: the context is open and the configuration is the one it was opened with, but for the rate.
        let result = unsafe { aom::aom_codec_enc_config_set(&raw mut *self.codec, &raw const self.config) };
        self.check(result, "change its bitrate")
    }

    /// Codes one frame of the context's size; `pts` must be above all before.
    pub(super) fn encode(
        &mut self,
        frame: &VideoFrame,
        pts: i64,
        duration: u32,
        key_frame: KeyFrame,
    ) -> Result<Option<EncodedPicture>, MediaError> {
        let coded = self.code(frame, pts, duration, key_frame)?;
        let Some((data, key_frame)) = coded else { return Ok(None) };
        let quantizer = self.quantizer()?;
        Ok(Some(EncodedPicture { data, key_frame, quantizer }))
    }

    /// Codes one layer of a frame of the context's size; all layers of a picture have the same `pts`.
    pub(super) fn encode_layer(
        &mut self,
        frame: &VideoFrame,
        pts: i64,
        duration: u32,
        layer: &LayerFrame,
    ) -> Result<Option<Bytes>, MediaError> {
        let mut id = aom::aom_svc_layer_id_t {
            spatial_layer_id: layer.spatial.into(),
            temporal_layer_id: layer.temporal.into(),
        };
        // SAFETY: this control reads one structure of this type, which lives until it returns.
        let result =
            unsafe { aom::aom_codec_control(&raw mut *self.codec, aom::AV1E_SET_SVC_LAYER_ID as c_int, &raw mut id) };
        self.check(result, "take a layer's number")?;
        let mut config = references(layer);
        let control = aom::AV1E_SET_SVC_REF_FRAME_CONFIG as c_int;
        // SAFETY: as above.
        let result = unsafe { aom::aom_codec_control(&raw mut *self.codec, control, &raw mut config) };
        self.check(result, "take a frame's references")?;
        let key_frame = if layer.reference.is_none() { KeyFrame::Force } else { KeyFrame::AsNeeded };
        Ok(self.code(frame, pts, duration, key_frame)?.map(|(data, _)| data))
    }

    /// Divides the bitrate among spatial layers, from the smallest; those with nothing are not going to be coded. Each layer's
    /// sides are half of the next one's. `shares` are the parts of a spatial layer's rate that its temporal layers take, each
    /// with those below.
    pub(super) fn set_layers(
        &mut self,
        kbps: &[u32],
        shares: [f64; TEMPORAL_LAYERS as usize],
    ) -> Result<(), MediaError> {
        // SAFETY: all zeroes is a valid value of this plain C structure.
        let mut params: aom::aom_svc_params_t = unsafe { MaybeUninit::zeroed().assume_init() };
        params.number_spatial_layers = kbps.len() as c_int;
        params.number_temporal_layers = TEMPORAL_LAYERS.into();
        params.min_quantizers.fill(QUANTIZERS.0 as c_int);
        params.max_quantizers.fill(QUANTIZERS.1 as c_int);
        for (layer, rate) in kbps.iter().enumerate() {
            params.scaling_factor_num[layer] = 1;
            params.scaling_factor_den[layer] = 1 << (kbps.len() - 1 - layer);
            for (temporal, share) in shares.into_iter().enumerate() {
                let index = layer * shares.len() + temporal;
                params.layer_target_bitrate[index] = (f64::from(*rate) * share) as c_int;
            }
        }
        params.framerate_factor[..shares.len()].copy_from_slice(&[4, 2, 1]);
        self.set_bitrate(kbps.iter().sum())?;
        // SAFETY: this control reads one structure of this type, which lives until it returns.
        let result =
            unsafe { aom::aom_codec_control(&raw mut *self.codec, aom::AV1E_SET_SVC_PARAMS as c_int, &raw mut params) };
        self.check(result, "divide its bitrate among layers")
    }

    fn code(
        &mut self,
        frame: &VideoFrame,
        pts: i64,
        duration: u32,
        key_frame: KeyFrame,
    ) -> Result<Option<(Bytes, bool)>, MediaError> {
        let image = self.image(frame);
        let flags = if key_frame == KeyFrame::Force { aom::AOM_EFLAG_FORCE_KF } else { 0 };
        // SAFETY: `image` describes planes that `frame` keeps alive and that are long enough for the size and strides, which
        // `VideoFrame` guarantees; libaom copies what it needs before it returns and does not write (no denoising is set).
        let result = unsafe {
            aom::aom_codec_encode(&raw mut *self.codec, &raw const image, pts, duration.max(1).into(), flags.into())
        };
        self.check(result, "encode a picture")?;
        self.collect()
    }

    fn image(&self, frame: &VideoFrame) -> aom::aom_image_t {
        // SAFETY: all zeroes is a valid value of this plain C structure.
        let mut image: aom::aom_image_t = unsafe { MaybeUninit::zeroed().assume_init() };
        image.fmt = aom::AOM_IMG_FMT_I420;
        image.bit_depth = 8;
        image.bps = 12;
        (image.w, image.h) = (frame.width(), frame.height());
        (image.d_w, image.d_h) = (frame.width(), frame.height());
        (image.x_chroma_shift, image.y_chroma_shift) = (1, 1);
        image.range = aom::AOM_CR_STUDIO_RANGE;
        for index in 0..3 {
            let plane = frame.plane(index);
            image.planes[index] = plane.data.as_ptr().cast_mut();
            image.stride[index] = plane.stride as c_int;
        }
        image
    }

    fn collect(&mut self) -> Result<Option<(Bytes, bool)>, MediaError> {
        let mut iterator: aom::aom_codec_iter_t = ptr::null();
        let mut unit = Vec::new();
        let mut key_frame = false;
        loop {
            // SAFETY: the context is open and `iterator` is only ever set by this call.
            let packet = unsafe { aom::aom_codec_get_cx_data(&raw mut *self.codec, &raw mut iterator).as_ref() };
            let Some(packet) = packet else { break };
            if packet.kind != aom::AOM_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: the kind says that the union holds a frame.
            let frame = unsafe { packet.data.frame };
            if frame.sz == 0 || frame.buf.is_null() {
                continue;
            }
            // SAFETY: libaom gives `sz` bytes at `buf`, valid until the next call on this context.
            unit.extend_from_slice(unsafe { std::slice::from_raw_parts(frame.buf.cast::<u8>(), frame.sz) });
            key_frame |= frame.flags & aom::AOM_FRAME_IS_KEY != 0;
        }
        Ok((!unit.is_empty()).then(|| (Bytes::from(unit), key_frame)))
    }

    /// The quantizer of the last frame, 0 to 255.
    pub(super) fn quantizer(&mut self) -> Result<u8, MediaError> {
        let mut quantizer: c_int = 0;
        // SAFETY: this control writes one `int`.
        let result = unsafe {
            aom::aom_codec_control(&raw mut *self.codec, aom::AOME_GET_LAST_QUANTIZER as c_int, &raw mut quantizer)
        };
        self.check(result, "tell its quantizer")?;
        Ok(quantizer.clamp(0, 255) as u8)
    }

    fn tune(&mut self) -> Result<(), MediaError> {
        let Settings { speed, screen, bt709, threads, .. } = self.settings;
        let screen_content = if screen { aom::AOM_CONTENT_SCREEN } else { aom::AOM_CONTENT_DEFAULT };
        let (primaries, transfer, matrix) = if bt709 {
            (aom::AOM_CICP_CP_BT_709, aom::AOM_CICP_TC_BT_709, aom::AOM_CICP_MC_BT_709)
        } else {
            (aom::AOM_CICP_CP_BT_601, aom::AOM_CICP_TC_BT_601, aom::AOM_CICP_MC_BT_601)
        };
        let controls: &[(aom::aome_enc_control_id, c_int)] = &[
            (aom::AOME_SET_CPUUSED, speed),
            (aom::AV1E_SET_TUNE_CONTENT, screen_content as c_int),
            (aom::AV1E_SET_COLOR_PRIMARIES, primaries as c_int),
            (aom::AV1E_SET_TRANSFER_CHARACTERISTICS, transfer as c_int),
            (aom::AV1E_SET_MATRIX_COEFFICIENTS, matrix as c_int),
            (aom::AV1E_SET_TILE_COLUMNS, threads.ilog2() as c_int),
            (aom::AV1E_SET_ROW_MT, c_int::from(threads > 1)),
            // Cyclic refresh: intra blocks spread over frames instead of rising in one.
            (aom::AV1E_SET_AQ_MODE, 3),
            // A key frame may take this many percent of a frame's share: more quality against a longer burst.
            (aom::AOME_SET_MAX_INTRA_BITRATE_PCT, 400),
            (aom::AV1E_SET_ENABLE_CDEF, 1),
            (aom::AV1E_SET_ENABLE_RESTORATION, 0),
            (aom::AV1E_SET_ENABLE_PALETTE, c_int::from(screen)),
            (aom::AV1E_SET_ENABLE_INTRABC, 0),
            // What follows costs time at no use without lookahead.
            (aom::AV1E_SET_ENABLE_TPL_MODEL, 0),
            (aom::AV1E_SET_DELTAQ_MODE, 0),
            (aom::AV1E_SET_ENABLE_ORDER_HINT, 0),
            (aom::AV1E_SET_ENABLE_OBMC, 0),
            (aom::AV1E_SET_ENABLE_WARPED_MOTION, 0),
            (aom::AV1E_SET_ENABLE_GLOBAL_MOTION, 0),
            (aom::AV1E_SET_ENABLE_REF_FRAME_MVS, 0),
            (aom::AV1E_SET_ENABLE_SUPERRES, 0),
            (aom::AV1E_SET_ENABLE_CFL_INTRA, 0),
            (aom::AV1E_SET_ENABLE_SMOOTH_INTRA, 0),
            (aom::AV1E_SET_ENABLE_ANGLE_DELTA, 0),
            (aom::AV1E_SET_ENABLE_FILTER_INTRA, 0),
            (aom::AV1E_SET_INTRA_DEFAULT_TX_ONLY, 1),
            (aom::AV1E_SET_COEFF_COST_UPD_FREQ, 3),
            (aom::AV1E_SET_MODE_COST_UPD_FREQ, 3),
            (aom::AV1E_SET_MV_COST_UPD_FREQ, 3),
        ];
        for &(control, value) in controls {
            // SAFETY: the context is open, and each of these controls takes one `int` or `unsigned int`.
            let result = unsafe { aom::aom_codec_control(&raw mut *self.codec, control as c_int, value) };
            self.check(result, &format!("take setting {control}"))?;
        }
        Ok(())
    }

    fn check(&self, result: aom::aom_codec_err_t, what: &str) -> Result<(), MediaError> {
        if result == aom::AOM_CODEC_OK {
            return Ok(());
        }
        // SAFETY: the context is open; the detail is null or a string that lives until the next call.
        let detail = unsafe { aom::aom_codec_error_detail(&raw const *self.codec) };
        let detail = if detail.is_null() {
            String::new()
        } else {
            // SAFETY: it is not null, and libaom's texts end in a zero.
            format!(" ({})", unsafe { CStr::from_ptr(detail) }.to_string_lossy())
        };
        Err(MediaError::new(format!("libaom could not {what}: {}{detail}", describe(result))))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is open and not used again.
        unsafe { aom::aom_codec_destroy(&raw mut *self.codec) };
    }
}

/// What a layer's frame refers to and where it is kept, as libaom takes it. References are named; the first is the one whose
/// state entropy coding goes on from, and a buffer can only be filled through a name that stands for it. Names that are not
/// used stand for buffer 0, the smallest layer's: a picture may refer to one of a quarter of its size, not the reverse.
fn references(layer: &LayerFrame) -> aom::aom_svc_ref_frame_config_t {
    const LAST: usize = 0;
    const GOLDEN: usize = 3;
    let mut config = aom::aom_svc_ref_frame_config_t { reference: [0; 7], ref_idx: [0; 7], refresh: [0; 8] };
    if let Some(reference) = layer.reference {
        config.reference[LAST] = 1;
        config.ref_idx[LAST] = reference.into();
    }
    if let Some(refresh) = layer.refresh {
        config.refresh[usize::from(refresh)] = 1;
        let name = if layer.reference == Some(refresh) { LAST } else { GOLDEN };
        config.ref_idx[name] = refresh.into();
    }
    config
}

fn config(settings: Settings) -> Result<aom::aom_codec_enc_cfg, MediaError> {
    let mut config = MaybeUninit::<aom::aom_codec_enc_cfg>::zeroed();
    // SAFETY: `config` is libaom's own type, which the call fills.
    let result = unsafe {
        aom::aom_codec_enc_config_default(aom::aom_codec_av1_cx(), config.as_mut_ptr(), aom::AOM_USAGE_REALTIME)
    };
    if result != aom::AOM_CODEC_OK {
        return Err(MediaError::new(format!("libaom has no real-time mode: {}", describe(result))));
    }
    // SAFETY: zeroed at first, and filled by libaom, which reported success.
    let mut config = unsafe { config.assume_init() };
    (config.g_w, config.g_h) = (settings.width, settings.height);
    config.g_threads = settings.threads;
    config.g_timebase = aom::aom_rational { num: 1, den: settings.timebase as c_int };
    config.g_lag_in_frames = 0;
    config.g_error_resilient = 0;
    config.g_pass = aom::AOM_RC_ONE_PASS;
    config.kf_mode = aom::AOM_KF_DISABLED;
    config.rc_end_usage = aom::AOM_CBR;
    config.rc_target_bitrate = settings.bitrate_kbps;
    (config.rc_min_quantizer, config.rc_max_quantizer) = QUANTIZERS;
    (config.rc_undershoot_pct, config.rc_overshoot_pct) = (50, 50);
    // Milliseconds at the target rate: how far a burst may run ahead before quality or frames give way.
    (config.rc_buf_initial_sz, config.rc_buf_optimal_sz, config.rc_buf_sz) = (600, 600, 1_000);
    // Drop frames where the buffer has fallen below this percentage.
    config.rc_dropframe_thresh = 30;
    Ok(config)
}

/// Best and worst, of 0 to 63. Beyond the worst, dropping frames looks better.
const QUANTIZERS: (c_uint, c_uint) = (2, 58);

fn describe(error: aom::aom_codec_err_t) -> String {
    // SAFETY: libaom returns a static string for every value.
    unsafe { CStr::from_ptr(aom::aom_codec_err_to_string(error)) }.to_string_lossy().into_owned()
}
