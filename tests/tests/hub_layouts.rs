//! The hubs' checkpoints at their full size, as files: names, shapes and
//! configs are the published ones, the weights are holes of a sparse file, so
//! that no download and no disk is needed. `--describe` reads headers only.
//!
//! Parameter counts are those that the model cards or timm's and transformers'
//! own counts give.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use headroom_tests::{Ended, Reference, ended, is_refused, program, say_skipped, succeeds};
use serde_json::{Map, Value, json};

type Tensors = Vec<(String, Vec<usize>)>;

/// Writes a safetensors file whose tensors are holes.
fn write_sparse(path: &Path, tensors: &Tensors) {
    let mut header = Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(name.clone(), json!({"dtype": "F32", "shape": shape, "data_offsets": [start, end]}));
    }
    let header = serde_json::to_vec(&header).unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
}

/// The files of a checkpoint, as the hub has them.
struct Layout {
    config: Value,
    preprocessor: Option<Value>,
    tensors: Tensors,
}

impl Layout {
    fn describe(&self, arguments: &[&str]) -> Ended {
        let home = tempfile::tempdir().unwrap();
        write_sparse(&home.path().join("model.safetensors"), &self.tensors);
        if !self.config.is_null() {
            std::fs::write(home.path().join("config.json"), self.config.to_string()).unwrap();
        }
        if let Some(preprocessor) = &self.preprocessor {
            std::fs::write(home.path().join("preprocessor_config.json"), preprocessor.to_string()).unwrap();
        }
        ended(program("host-prune").args(arguments).args(["--json", "--describe"]).arg(home.path()))
    }

    /// Describes the layout and compares family, heads, side of the input, tokens and parameters.
    fn is(&self, family: &str, heads: usize, side: usize, tokens: usize, parameters: u64) -> Value {
        let ended = self.describe(&[]);
        assert_eq!(ended.code, Some(0), "{family}:\n{}", ended.stderr);
        let report: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(report["family"].as_str().unwrap().contains(family), "{family}: {}", report["family"]);
        assert_eq!(report["heads"], heads, "{family}");
        assert_eq!(report["input"]["height"], side, "{family}");
        assert_eq!(report["tokens"]["all"], tokens, "{family}");
        assert_eq!(report["parameters"], parameters, "{family}");
        report
    }
}

/// `NAME.weight` and `NAME.bias` of a linear layer.
fn linear(tensors: &mut Tensors, name: &str, outputs: usize, inputs: usize) {
    tensors.push((format!("{name}.weight"), vec![outputs, inputs]));
    tensors.push((format!("{name}.bias"), vec![outputs]));
}

fn norm(tensors: &mut Tensors, name: &str, width: usize) {
    tensors.push((format!("{name}.weight"), vec![width]));
    tensors.push((format!("{name}.bias"), vec![width]));
}

fn patches(tensors: &mut Tensors, name: &str, width: usize, patch: usize) {
    tensors.push((format!("{name}.weight"), vec![width, 3, patch, patch]));
    tensors.push((format!("{name}.bias"), vec![width]));
}

/// timm's naming: plain blocks, fused qkv.
fn timm(width: usize, depth: usize, patch: usize, positions: usize, layer_scale: bool, classes: usize) -> Tensors {
    let mut tensors = Tensors::new();
    tensors.push(("cls_token".into(), vec![1, 1, width]));
    tensors.push(("pos_embed".into(), vec![1, positions, width]));
    patches(&mut tensors, "patch_embed.proj", width, patch);
    for block in 0..depth {
        let name = |part: &str| format!("blocks.{block}.{part}");
        norm(&mut tensors, &name("norm1"), width);
        linear(&mut tensors, &name("attn.qkv"), 3 * width, width);
        linear(&mut tensors, &name("attn.proj"), width, width);
        norm(&mut tensors, &name("norm2"), width);
        linear(&mut tensors, &name("mlp.fc1"), 4 * width, width);
        linear(&mut tensors, &name("mlp.fc2"), width, 4 * width);
        if layer_scale {
            tensors.push((name("ls1.gamma"), vec![width]));
            tensors.push((name("ls2.gamma"), vec![width]));
        }
    }
    norm(&mut tensors, "norm", width);
    if classes > 0 {
        linear(&mut tensors, "head", classes, width);
    }
    tensors
}

/// What timm writes beside its weights: the architecture's name and the preprocessing, no sizes.
fn timm_config(architecture: &str, classes: usize, pool: &str, side: usize) -> Value {
    json!({
        "architecture": architecture,
        "num_classes": classes,
        "num_features": 768,
        "global_pool": pool,
        "pretrained_cfg": {
            "tag": "published", "custom_load": false, "input_size": [3, side, side], "fixed_input_size": true,
            "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center", "mean": [0.5, 0.5, 0.5],
            "std": [0.5, 0.5, 0.5], "num_classes": classes, "pool_size": null, "first_conv": "patch_embed.proj",
            "classifier": "head"
        }
    })
}

#[test]
fn timm_vit_and_deit() {
    // timm/vit_base_patch16_224.augreg_in21k_ft_in1k, timm/deit_base_patch16_224.fb_in1k.
    for (architecture, family) in [("vit_base_patch16_224", "ViT"), ("deit_base_patch16_224", "DeiT")] {
        let config = timm_config(architecture, 1000, "token", 224);
        let layout = Layout { config, preprocessor: None, tensors: timm(768, 12, 16, 197, false, 1000) };
        let report = layout.is(family, 12, 224, 197, 86_567_656);
        // The DeiT paper: 17.6 billion.
        let macs = report["macs"].as_f64().unwrap();
        assert!((17.5e9..17.6e9).contains(&macs), "{macs}");
    }
    // timm/deit3_small_patch16_224.fb_in1k: positions of the patches only.
    let config = timm_config("deit3_small_patch16_224", 1000, "token", 224);
    let layout = Layout { config, preprocessor: None, tensors: timm(384, 12, 16, 196, true, 1000) };
    let report = layout.is("DeiT-III", 6, 224, 197, 22_059_496);
    assert_eq!(report["layer_scale"], true);
}

#[test]
fn an_architecture_that_is_not_in_the_table_needs_heads() {
    let config = timm_config("vit_of_tomorrow_patch16_224", 0, "token", 224);
    let layout = Layout { config, preprocessor: None, tensors: timm(768, 12, 16, 197, false, 0) };
    let refused = layout.describe(&[]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("attention heads") && refused.stderr.contains("--heads"), "{}", refused.stderr);
    let with_heads = layout.describe(&["--heads", "12"]);
    assert_eq!(with_heads.code, Some(0), "{}", with_heads.stderr);
    assert!(with_heads.stdout.contains("not in the table"), "{}", with_heads.stdout);
}

/// transformers' naming of ViT, DINO v1 and DINOv2.
struct Transformers {
    prefix: &'static str,
    width: usize,
    depth: usize,
    patch: usize,
    positions: usize,
}

impl Transformers {
    fn embeddings(&self) -> Tensors {
        let Self { prefix, width, patch, positions, .. } = *self;
        let mut tensors = Tensors::new();
        tensors.push((format!("{prefix}embeddings.cls_token"), vec![1, 1, width]));
        tensors.push((format!("{prefix}embeddings.position_embeddings"), vec![1, positions, width]));
        patches(&mut tensors, &format!("{prefix}embeddings.patch_embeddings.projection"), width, patch);
        norm(&mut tensors, &format!("{prefix}layernorm"), width);
        tensors
    }

    fn attention(&self, tensors: &mut Tensors, block: usize) {
        let name = |part: &str| format!("{}encoder.layer.{block}.attention.{part}", self.prefix);
        for part in ["attention.query", "attention.key", "attention.value", "output.dense"] {
            linear(tensors, &name(part), self.width, self.width);
        }
    }

    fn vit(&self) -> Tensors {
        let mut tensors = self.embeddings();
        for block in 0..self.depth {
            let name = |part: &str| format!("{}encoder.layer.{block}.{part}", self.prefix);
            self.attention(&mut tensors, block);
            norm(&mut tensors, &name("layernorm_before"), self.width);
            norm(&mut tensors, &name("layernorm_after"), self.width);
            linear(&mut tensors, &name("intermediate.dense"), 4 * self.width, self.width);
            linear(&mut tensors, &name("output.dense"), self.width, 4 * self.width);
        }
        tensors
    }

    /// `swiglu`: hidden neurons of a gated MLP.
    fn dinov2(&self, swiglu: Option<usize>) -> Tensors {
        let mut tensors = self.embeddings();
        tensors.push((format!("{}embeddings.mask_token", self.prefix), vec![1, self.width]));
        for block in 0..self.depth {
            let name = |part: &str| format!("{}encoder.layer.{block}.{part}", self.prefix);
            self.attention(&mut tensors, block);
            norm(&mut tensors, &name("norm1"), self.width);
            norm(&mut tensors, &name("norm2"), self.width);
            tensors.push((name("layer_scale1.lambda1"), vec![self.width]));
            tensors.push((name("layer_scale2.lambda1"), vec![self.width]));
            match swiglu {
                None => {
                    linear(&mut tensors, &name("mlp.fc1"), 4 * self.width, self.width);
                    linear(&mut tensors, &name("mlp.fc2"), self.width, 4 * self.width);
                }
                Some(neurons) => {
                    linear(&mut tensors, &name("mlp.weights_in"), 2 * neurons, self.width);
                    linear(&mut tensors, &name("mlp.weights_out"), self.width, neurons);
                }
            }
        }
        tensors
    }
}

#[test]
fn transformers_vit_and_dino() {
    let config = |architecture: &str| {
        json!({
            "architectures": [architecture], "model_type": "vit", "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "hidden_act": "gelu", "image_size": 224,
            "patch_size": 16, "num_channels": 3, "layer_norm_eps": 1e-12, "qkv_bias": true
        })
    };
    // google/vit-base-patch16-224.
    let vit = Transformers { prefix: "vit.", width: 768, depth: 12, patch: 16, positions: 197 };
    let mut tensors = vit.vit();
    linear(&mut tensors, "classifier", 1000, 768);
    let preprocessor = json!({
        "do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
        "resample": 2, "size": {"height": 224, "width": 224}
    });
    let layout = Layout { config: config("ViTForImageClassification"), preprocessor: Some(preprocessor), tensors };
    let report = layout.is("ViT", 12, 224, 197, 86_567_656);
    assert_eq!((&report["classes"], &report["input"]["interpolation"]), (&json!(1000), &json!("bilinear")));
    assert_eq!((&report["input"]["crop_mode"], &report["input"]["crop_fraction"]), (&json!("squash"), &json!(1.0)));

    // facebook/dino-vitb16.
    let dino = Transformers { prefix: "", ..vit };
    let layout = Layout { config: config("ViTModel"), preprocessor: None, tensors: dino.vit() };
    layout.is("DINO v1", 12, 224, 197, 85_798_656);
}

#[test]
fn transformers_dinov2() {
    let config = |width: usize, depth: usize, heads: usize, swiglu: bool| {
        json!({
            "architectures": ["Dinov2Model"], "model_type": "dinov2", "hidden_size": width, "num_hidden_layers": depth,
            "num_attention_heads": heads, "mlp_ratio": 4, "hidden_act": "gelu", "image_size": 518, "patch_size": 14,
            "layer_norm_eps": 1e-6, "layerscale_value": 1.0, "qkv_bias": true, "use_swiglu_ffn": swiglu
        })
    };
    let preprocessor = json!({
        "crop_size": {"height": 224, "width": 224}, "do_center_crop": true, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": {"shortest_edge": 256}
    });
    // facebook/dinov2-small, -base, -large, -giant; without the mask token, which no inference uses.
    for (width, depth, heads, swiglu, parameters) in [
        (384, 12, 6, None, 22_056_576 - 384),
        (768, 12, 12, None, 86_580_480 - 768),
        (1024, 24, 16, None, 304_368_640 - 1024),
        (1536, 40, 24, Some(4096), 1_136_480_768 - 1536),
    ] {
        let model = Transformers { prefix: "", width, depth, patch: 14, positions: 1370 };
        let layout = Layout {
            config: config(width, depth, heads, swiglu.is_some()),
            preprocessor: Some(preprocessor.clone()),
            tensors: model.dinov2(swiglu),
        };
        let report = layout.is("DINOv2", heads, 224, 257, parameters);
        assert_eq!(report["positions"], "learned, 37x37 resampled to 16x16 (bicubic)");
        assert_eq!(
            (&report["input"]["crop_mode"], &report["input"]["crop_fraction"]),
            (&json!("center"), &json!(0.875))
        );
        assert_eq!(report["mlp"], if swiglu.is_some() { "gated" } else { "plain" });
    }
    // facebook/dinov2-with-registers-base.
    let model = Transformers { prefix: "", width: 768, depth: 12, patch: 14, positions: 1370 };
    let mut tensors = model.dinov2(None);
    tensors.push(("embeddings.register_tokens".into(), vec![1, 4, 768]));
    let layout = Layout { config: config(768, 12, 12, false), preprocessor: Some(preprocessor), tensors };
    let report = layout.is("registers", 12, 224, 261, 86_580_480 - 768 + 4 * 768);
    assert_eq!(report["positions"], "learned, 37x37 resampled to 16x16 (bicubic with antialiasing)");
}

#[test]
fn dinov3() {
    // facebook/dinov3-vits16-pretrain-lvd1689m; timm/vit_small_patch16_dinov3.lvd1689m has no biases of q, k and v.
    let mut tensors = Tensors::new();
    tensors.push(("embeddings.cls_token".into(), vec![1, 1, 384]));
    tensors.push(("embeddings.mask_token".into(), vec![1, 1, 384]));
    tensors.push(("embeddings.register_tokens".into(), vec![1, 4, 384]));
    patches(&mut tensors, "embeddings.patch_embeddings", 384, 16);
    let mut of_timm = Tensors::new();
    of_timm.push(("cls_token".into(), vec![1, 1, 384]));
    of_timm.push(("reg_token".into(), vec![1, 4, 384]));
    patches(&mut of_timm, "patch_embed.proj", 384, 16);
    for block in 0..12 {
        let name = |part: &str| format!("layer.{block}.{part}");
        norm(&mut tensors, &name("norm1"), 384);
        norm(&mut tensors, &name("norm2"), 384);
        for part in ["q_proj", "v_proj", "o_proj"] {
            linear(&mut tensors, &name(&format!("attention.{part}")), 384, 384);
        }
        tensors.push((name("attention.k_proj.weight"), vec![384, 384]));
        tensors.push((name("layer_scale1.lambda1"), vec![384]));
        tensors.push((name("layer_scale2.lambda1"), vec![384]));
        linear(&mut tensors, &name("mlp.up_proj"), 1536, 384);
        linear(&mut tensors, &name("mlp.down_proj"), 384, 1536);

        let name = |part: &str| format!("blocks.{block}.{part}");
        norm(&mut of_timm, &name("norm1"), 384);
        norm(&mut of_timm, &name("norm2"), 384);
        of_timm.push((name("attn.qkv.weight"), vec![1152, 384]));
        linear(&mut of_timm, &name("attn.proj"), 384, 384);
        of_timm.push((name("gamma_1"), vec![384]));
        of_timm.push((name("gamma_2"), vec![384]));
        linear(&mut of_timm, &name("mlp.fc1"), 1536, 384);
        linear(&mut of_timm, &name("mlp.fc2"), 384, 1536);
    }
    norm(&mut tensors, "norm", 384);
    norm(&mut of_timm, "norm", 384);
    let config = json!({
        "architectures": ["DINOv3ViTModel"], "model_type": "dinov3_vit", "hidden_size": 384, "num_hidden_layers": 12,
        "num_attention_heads": 6, "intermediate_size": 1536, "hidden_act": "gelu", "image_size": 224, "patch_size": 16,
        "layer_norm_eps": 1e-5, "rope_theta": 100.0, "num_register_tokens": 4, "use_gated_mlp": false,
        "query_bias": true, "key_bias": false, "value_bias": true, "pos_embed_rescale": 2.0
    });
    let preprocessor = json!({
        "crop_size": null, "do_center_crop": null, "do_resize": true, "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225], "resample": 2, "size": {"height": 224, "width": 224}
    });
    let layout = Layout { config, preprocessor: Some(preprocessor), tensors };
    // The authors' count holds the mask token and biases of the keys, which are zero and left out here.
    let without = 384 + 12 * 384;
    let report = layout.is("DINOv3", 6, 224, 201, 21_601_152 - without);
    assert_eq!(report["positions"], "rotary, base 100");

    let config = timm_config("vit_small_patch16_dinov3", 0, "avg", 256);
    let layout = Layout { config, preprocessor: None, tensors: of_timm };
    let report = layout.is("DINOv3", 6, 256, 261, 21_601_152 - without - 12 * 2 * 384);
    assert_eq!(report["pooling"], "mean of the patches");
}

/// The vision tower of CLIP and SigLIP with a tensor or two of the text tower.
fn two_towers(width: usize, patch: usize, positions: usize) -> Tensors {
    let mut tensors = Tensors::new();
    tensors.push(("logit_scale".into(), vec![]));
    tensors.push(("text_model.embeddings.token_embedding.weight".into(), vec![32_000, 768]));
    linear(&mut tensors, "text_model.encoder.layers.0.mlp.fc1", 3072, 768);
    tensors.push(("vision_model.embeddings.position_embedding.weight".into(), vec![positions, width]));
    tensors.push(("vision_model.embeddings.patch_embedding.weight".into(), vec![width, 3, patch, patch]));
    for block in 0..12 {
        let name = |part: &str| format!("vision_model.encoder.layers.{block}.{part}");
        norm(&mut tensors, &name("layer_norm1"), width);
        norm(&mut tensors, &name("layer_norm2"), width);
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            linear(&mut tensors, &name(&format!("self_attn.{part}")), width, width);
        }
        linear(&mut tensors, &name("mlp.fc1"), 4 * width, width);
        linear(&mut tensors, &name("mlp.fc2"), width, 4 * width);
    }
    norm(&mut tensors, "vision_model.post_layernorm", width);
    tensors
}

#[test]
fn siglip_and_clip() {
    // google/siglip-base-patch16-224 and google/siglip2-base-patch16-224: vision_config holds only its type.
    let mut tensors = two_towers(768, 16, 196);
    tensors.push(("logit_bias".into(), vec![1]));
    tensors.push(("vision_model.embeddings.patch_embedding.bias".into(), vec![768]));
    tensors.push(("vision_model.head.probe".into(), vec![1, 1, 768]));
    tensors.push(("vision_model.head.attention.in_proj_weight".into(), vec![2304, 768]));
    tensors.push(("vision_model.head.attention.in_proj_bias".into(), vec![2304]));
    linear(&mut tensors, "vision_model.head.attention.out_proj", 768, 768);
    norm(&mut tensors, "vision_model.head.layernorm", 768);
    linear(&mut tensors, "vision_model.head.mlp.fc1", 3072, 768);
    linear(&mut tensors, "vision_model.head.mlp.fc2", 768, 3072);
    let config = json!({
        "architectures": ["SiglipModel"], "model_type": "siglip", "initializer_factor": 1.0,
        "text_config": {"model_type": "siglip_text_model", "vocab_size": 256_000},
        "vision_config": {"model_type": "siglip_vision_model"}
    });
    let preprocessor = json!({
        "do_resize": true, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3,
        "size": {"height": 224, "width": 224}
    });
    let layout = Layout { config, preprocessor: Some(preprocessor), tensors };
    let report = layout.is("SigLIP", 12, 224, 196, 92_884_224);
    assert_eq!((&report["pooling"], &report["activation"]), (&json!("attention pool"), &json!("gelu-tanh")));
    assert_eq!(report["input"]["crop_mode"], "squash");
    assert!(report["notes"].to_string().contains("two towers"));

    // openai/clip-vit-base-patch32: its old file holds position_ids.
    let mut tensors = two_towers(768, 32, 50);
    tensors.push(("vision_model.embeddings.class_embedding".into(), vec![768]));
    tensors.push(("vision_model.embeddings.position_ids".into(), vec![1, 50]));
    tensors.push(("visual_projection.weight".into(), vec![512, 768]));
    tensors.push(("text_projection.weight".into(), vec![512, 512]));
    norm(&mut tensors, "vision_model.pre_layrnorm", 768);
    let config = json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 512,
        "text_config": {"model_type": "clip_text_model"},
        "vision_config": {
            "model_type": "clip_vision_model", "id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "num_beams": 1
        }
    });
    let preprocessor = json!({
        "crop_size": 224, "do_center_crop": true, "resample": 3, "size": 224,
        "image_mean": [0.481_454_66, 0.457_827_5, 0.408_210_73],
        "image_std": [0.268_629_54, 0.261_302_6, 0.275_777_1]
    });
    let layout = Layout { config, preprocessor: Some(preprocessor), tensors };
    let report = layout.is("CLIP", 12, 224, 50, 87_456_000 + 512 * 768);
    assert_eq!(report["activation"], "quick-gelu");
    assert_eq!(report["input"]["crop_mode"], "center");
}

#[test]
fn an_input_that_is_not_whole_patches_is_cut_around_its_centre() {
    // timm/vit_so400m_patch14_siglip_384: 27 patches of 14 pixels are 378.
    let mut tensors = timm(1152, 27, 14, 729, false, 0);
    tensors.retain(|(name, _)| name != "cls_token");
    let config = timm_config("vit_so400m_patch14_siglip_gap_384", 0, "avg", 384);
    let layout = Layout { config, preprocessor: None, tensors };
    let report = layout.is("SigLIP", 16, 378, 729, 27 * (12 * 1152 * 1152 + 13 * 1152) + 1152 * (588 + 729 + 3));
    // The image is resized as for 384 pixels: 378 of floor(384 / 0.9).
    let crop_fraction = report["input"]["crop_fraction"].as_f64().unwrap();
    assert!((crop_fraction - 0.9 * 378.0 / 384.0).abs() < 1e-6, "{crop_fraction}");
    assert!(report["notes"].to_string().contains("378x378 instead of 384x384"), "{}", report["notes"]);
}

#[test]
fn published_scores_fit_their_models_and_no_others() {
    let Some(data) = Reference::Data.folder("published_scores_fit_their_models_and_no_others") else { return };
    let scores = data.join("snapvit-scores/deit-3-vit-s-16.pt");
    if !scores.is_file() {
        say_skipped(&format!("published_scores: no {}", scores.display()));
        return;
    }
    let home = tempfile::tempdir().unwrap();
    write_sparse(&home.path().join("model.safetensors"), &timm(384, 12, 16, 196, true, 1000));
    let config = timm_config("deit3_small_patch16_224", 1000, "token", 224);
    std::fs::write(home.path().join("config.json"), config.to_string()).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(scores.with_extension("expected.json")).unwrap()).unwrap();
    let ratios: Vec<&Value> = expected["ratios"].as_array().unwrap().iter().collect();
    for ratio in ratios.into_iter().filter(|ratio| ratio["mlp"].as_f64() > Some(0.0)) {
        let sparsity = format!("{}/{}", ratio["mlp"], ratio["heads"]);
        let mut describe = program("host-prune");
        describe.args(["--json", "--sparsities", &sparsity, "--scores"]).arg(&scores);
        let report: Value = serde_json::from_str(&succeeds(describe.arg("--describe").arg(home.path()))).unwrap();
        let kept = &report["scores"]["published"][0]["kept"];
        assert_eq!(kept["neurons"], ratio["neurons_kept"], "{sparsity}");
        assert_eq!(kept["heads"], ratio["heads_kept"], "{sparsity}");
    }

    // A whole job by these scores, on a small input: no importance, no search, the counts within a group.
    let bundle = home.path().join("bundle");
    let mut prune = program("host-prune");
    prune.args(["--target", "jetson-orin", "--image-size", "32", "--images-limit", "2", "--rungs", "3", "--json"]);
    prune.arg("--quiet").arg("--model").arg(home.path()).arg("--out").arg(&bundle).arg("--scores").arg(&scores);
    let report: Value = serde_json::from_str(&succeeds(&mut prune)).unwrap();
    assert_eq!(report["scores"]["model_type"], "deit-3-vit-s-16");
    assert_eq!(report["search"]["evaluations"], 0);
    let stages: Vec<&str> =
        report["stages"].as_array().unwrap().iter().map(|stage| stage["name"].as_str().unwrap()).collect();
    assert!(!stages.contains(&"importance"), "{stages:?}");

    let other = data.join("snapvit-scores/dino_vitb16.pt");
    is_refused(
        program("host-prune").arg("--scores").arg(&other).arg("--describe").arg(home.path()),
        &["dino_vitb16", "12 heads and 3072 neurons", "the model has 12 blocks of 6 heads and 1536 neurons", "hint"],
    );
}
