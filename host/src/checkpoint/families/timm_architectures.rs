//! timm's published architecture names: what each implies and no tensor tells.
//!
//! Most configs on the hub hold only the architecture's name. The entries are
//! the `model_args` of the functions of that name in `timm/models`
//! (version 1.0.31, read from its package on PyPI); each group names its file.
//! Left out are architectures whose blocks no executor has (parallel,
//! differential, RMSNorm).

use headroom_device::model::description::Activation;

/// What follows from an architecture's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Architecture {
    pub(super) embed_dim: usize,
    pub(super) heads: usize,
    pub(super) activation: Activation,
    pub(super) eps: f64,
}

/// The entry of that name.
pub(super) fn find(name: &str) -> Option<Architecture> {
    GROUPS.iter().find(|group| group.names.contains(&name)).map(|group| group.architecture)
}

/// The family that the name is known for, for messages.
pub(super) fn family(name: &str) -> &'static str {
    const WORDS: &[(&str, &str)] = &[
        ("dinov3", "DINOv3"),
        ("dinov2", "DINOv2"),
        ("siglip", "SigLIP"),
        ("clip", "CLIP"),
        ("deit3", "DeiT-III"),
        ("deit", "DeiT"),
    ];
    WORDS.iter().find(|(word, _)| name.contains(word)).map_or("ViT", |(_, family)| family)
}

/// Architectures that agree in everything listed here.
struct Group {
    architecture: Architecture,
    names: &'static [&'static str],
}

const fn group(
    embed_dim: usize,
    heads: usize,
    activation: Activation,
    eps: f64,
    names: &'static [&'static str],
) -> Group {
    Group { architecture: Architecture { embed_dim, heads, activation, eps }, names }
}

use Activation::{Gelu, GeluTanh, QuickGelu, Silu};

#[rustfmt::skip]
const GROUPS: &[Group] = &[
    // timm/models/vision_transformer.py: ViT, AugReg, DINO v1.
    group(192, 3, Gelu, 1e-6, &["vit_tiny_patch16_224", "vit_tiny_patch16_384"]),
    group(384, 6, Gelu, 1e-6, &[
        "vit_small_patch32_224", "vit_small_patch32_384", "vit_small_patch16_224", "vit_small_patch16_384",
        "vit_small_patch8_224", "vit_small_patch16_36x1_224", "flexivit_small",
    ]),
    group(768, 12, Gelu, 1e-6, &[
        "vit_base_patch32_224", "vit_base_patch32_384", "vit_base_patch16_224", "vit_base_patch16_384",
        "vit_base_patch8_224", "vit_base_patch16_224_miil", "flexivit_base",
    ]),
    group(1024, 16, Gelu, 1e-6, &[
        "vit_large_patch32_224", "vit_large_patch32_384", "vit_large_patch16_224", "vit_large_patch16_384",
        "vit_large_patch14_224", "flexivit_large", "eva_large_patch14_196", "eva_large_patch14_336",
        "vit_intern300m_patch14_448",
    ]),
    group(1280, 16, Gelu, 1e-6, &["vit_huge_patch14_224"]),
    group(1408, 16, Gelu, 1e-6, &["vit_giant_patch14_224"]),
    group(1664, 16, Gelu, 1e-6, &["vit_gigantic_patch14_224"]),
    group(896, 14, Gelu, 1e-6, &["vit_base_patch32_plus_256", "vit_base_patch16_plus_240"]),
    group(64, 2, Gelu, 1e-6, &["test_vit", "test_vit2"]),

    // The same file: average pooling, with and without registers.
    group(512, 8, Gelu, 1e-6, &[
        "vit_medium_patch16_gap_240", "vit_medium_patch16_gap_256", "vit_medium_patch16_gap_384",
        "vit_medium_patch16_reg1_gap_256", "vit_medium_patch16_reg4_gap_256",
        "vit_mediumd_patch16_reg4_gap_256", "vit_mediumd_patch16_reg4_gap_384",
    ]),
    group(640, 10, Gelu, 1e-6, &[
        "vit_betwixt_patch16_gap_256", "vit_betwixt_patch16_reg1_gap_256", "vit_betwixt_patch16_reg4_gap_256",
        "vit_betwixt_patch16_reg4_gap_384",
    ]),
    // 48 dimensions a head.
    group(768, 16, Gelu, 1e-6, &["vit_base_patch16_gap_224"]),
    group(768, 12, Gelu, 1e-6, &["vit_base_patch16_reg4_gap_256"]),
    group(1280, 16, Gelu, 1e-6, &["vit_huge_patch14_gap_224", "vit_huge_patch16_gap_448"]),
    group(1408, 16, Gelu, 1e-6, &["vit_giant_patch16_gap_224"]),
    group(256, 4, Gelu, 1e-6, &["vit_wee_patch16_reg1_gap_256"]),
    group(320, 5, Gelu, 1e-6, &["vit_little_patch16_reg1_gap_256", "vit_little_patch16_reg4_gap_256"]),
    group(896, 14, Gelu, 1e-6, &["vit_so150m_patch16_reg4_gap_256", "vit_so150m_patch16_reg4_gap_384"]),
    group(832, 13, Gelu, 1e-6, &[
        "vit_so150m2_patch16_reg1_gap_256", "vit_so150m2_patch16_reg1_gap_384", "vit_so150m2_patch16_reg1_gap_448",
    ]),

    // The same file: CLIP.
    group(256, 4, Gelu, 1e-5, &["vit_xsmall_patch16_clip_224"]),
    group(512, 8, Gelu, 1e-5, &["vit_medium_patch32_clip_224", "vit_medium_patch16_clip_224"]),
    group(640, 10, Gelu, 1e-5, &["vit_betwixt_patch32_clip_224"]),
    group(768, 12, Gelu, 1e-5, &[
        "vit_base_patch32_clip_224", "vit_base_patch32_clip_256", "vit_base_patch32_clip_384",
        "vit_base_patch32_clip_448", "vit_base_patch16_clip_224", "vit_base_patch16_clip_384",
    ]),
    group(896, 14, Gelu, 1e-5, &["vit_base_patch16_plus_clip_240"]),
    group(1024, 16, Gelu, 1e-5, &["vit_large_patch14_clip_224", "vit_large_patch14_clip_336"]),
    group(1280, 16, Gelu, 1e-5, &[
        "vit_huge_patch14_clip_224", "vit_huge_patch14_clip_336", "vit_huge_patch14_clip_378",
    ]),
    group(1408, 16, Gelu, 1e-5, &["vit_giant_patch14_clip_224"]),
    group(1664, 16, Gelu, 1e-5, &["vit_gigantic_patch14_clip_224", "vit_gigantic_patch14_clip_378"]),
    group(768, 12, QuickGelu, 1e-5, &["vit_base_patch32_clip_quickgelu_224", "vit_base_patch16_clip_quickgelu_224"]),
    group(1024, 16, QuickGelu, 1e-5, &[
        "vit_large_patch14_clip_quickgelu_224", "vit_large_patch14_clip_quickgelu_336",
    ]),
    group(1280, 16, QuickGelu, 1e-5, &["vit_huge_patch14_clip_quickgelu_224", "vit_huge_patch14_clip_quickgelu_378"]),
    group(1664, 16, QuickGelu, 1e-5, &["vit_gigantic_patch14_clip_quickgelu_224"]),

    // The same file: DINOv2 and TIPSv2. The giants have packed SwiGLU.
    group(384, 6, Gelu, 1e-6, &["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"]),
    group(768, 12, Gelu, 1e-6, &[
        "vit_base_patch14_dinov2", "vit_base_patch14_reg4_dinov2", "vit_base_patch14_reg1_tipsv2",
    ]),
    group(1024, 16, Gelu, 1e-6, &[
        "vit_large_patch14_dinov2", "vit_large_patch14_reg4_dinov2", "vit_large_patch14_reg1_tipsv2",
    ]),
    group(1152, 16, Gelu, 1e-6, &["vit_so400m_patch14_reg1_tipsv2"]),
    group(1536, 24, Silu, 1e-6, &[
        "vit_giant_patch14_dinov2", "vit_giant_patch14_reg4_dinov2", "vit_giant_patch14_reg1_tipsv2",
    ]),

    // The same file: SigLIP and SigLIP 2. Some have the tanh form of GELU, some the erf form.
    group(768, 12, Gelu, 1e-6, &[
        "vit_base_patch16_siglip_224", "vit_base_patch16_siglip_256", "vit_base_patch16_siglip_384",
        "vit_base_patch16_siglip_512", "vit_base_patch16_siglip_gap_224", "vit_base_patch16_siglip_gap_256",
        "vit_base_patch16_siglip_gap_384", "vit_base_patch16_siglip_gap_512",
    ]),
    group(768, 12, GeluTanh, 1e-6, &["vit_base_patch32_siglip_256", "vit_base_patch32_siglip_gap_256"]),
    group(1024, 16, Gelu, 1e-6, &[
        "vit_large_patch16_siglip_256", "vit_large_patch16_siglip_384", "vit_large_patch16_siglip_gap_256",
        "vit_large_patch16_siglip_gap_384",
    ]),
    group(1024, 16, GeluTanh, 1e-6, &["vit_large_patch16_siglip_512", "vit_large_patch16_siglip_gap_512"]),
    group(1152, 16, Gelu, 1e-6, &[
        "vit_so400m_patch14_siglip_224", "vit_so400m_patch14_siglip_378", "vit_so400m_patch14_siglip_384",
        "vit_so400m_patch14_siglip_gap_224", "vit_so400m_patch14_siglip_gap_378",
        "vit_so400m_patch14_siglip_gap_384", "vit_so400m_patch14_siglip_gap_448",
        "vit_so400m_patch14_siglip_gap_896",
    ]),
    group(1152, 16, GeluTanh, 1e-6, &[
        "vit_so400m_patch16_siglip_256", "vit_so400m_patch16_siglip_384", "vit_so400m_patch16_siglip_512",
        "vit_so400m_patch16_siglip_gap_256", "vit_so400m_patch16_siglip_gap_384",
        "vit_so400m_patch16_siglip_gap_512",
    ]),
    group(1536, 16, GeluTanh, 1e-6, &[
        "vit_giantopt_patch16_siglip_256", "vit_giantopt_patch16_siglip_384",
        "vit_giantopt_patch16_siglip_gap_256", "vit_giantopt_patch16_siglip_gap_384",
    ]),

    // timm/models/deit.py.
    group(192, 3, Gelu, 1e-6, &["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"]),
    group(384, 6, Gelu, 1e-6, &[
        "deit_small_patch16_224", "deit_small_distilled_patch16_224", "deit3_small_patch16_224",
        "deit3_small_patch16_384",
    ]),
    group(512, 8, Gelu, 1e-6, &["deit3_medium_patch16_224"]),
    group(768, 12, Gelu, 1e-6, &[
        "deit_base_patch16_224", "deit_base_patch16_384", "deit_base_distilled_patch16_224",
        "deit_base_distilled_patch16_384", "deit3_base_patch16_224", "deit3_base_patch16_384",
    ]),
    group(1024, 16, Gelu, 1e-6, &["deit3_large_patch16_224", "deit3_large_patch16_384"]),
    group(1280, 16, Gelu, 1e-6, &["deit3_huge_patch14_224"]),

    // timm/models/eva.py: DINOv3. The plus and 7B models have SwiGLU.
    group(192, 3, Gelu, 1e-5, &["vit_tiny_patch16_dinov3_qkvb"]),
    group(384, 6, Gelu, 1e-5, &["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"]),
    group(384, 6, Silu, 1e-5, &["vit_small_plus_patch16_dinov3", "vit_small_plus_patch16_dinov3_qkvb"]),
    group(768, 12, Gelu, 1e-5, &["vit_base_patch16_dinov3", "vit_base_patch16_dinov3_qkvb"]),
    group(1024, 16, Gelu, 1e-5, &["vit_large_patch16_dinov3", "vit_large_patch16_dinov3_qkvb"]),
    group(1280, 20, Silu, 1e-5, &["vit_huge_plus_patch16_dinov3", "vit_huge_plus_patch16_dinov3_qkvb"]),
    group(4096, 32, Silu, 1e-5, &["vit_7b_patch16_dinov3"]),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_name_is_listed_once_and_its_heads_divide_its_width() {
        let mut names = BTreeSet::new();
        for group in GROUPS {
            assert!(group.architecture.embed_dim.is_multiple_of(group.architecture.heads), "{:?}", group.names);
            for name in group.names {
                assert!(names.insert(name), "{name} is listed twice");
            }
        }
    }

    #[test]
    fn activation_and_eps_follow_the_name_not_only_the_size() {
        let base = find("vit_base_patch16_224").unwrap();
        assert_eq!((base.heads, base.activation, base.eps), (12, Gelu, 1e-6));
        assert_eq!(find("vit_base_patch16_siglip_224").unwrap().activation, Gelu);
        assert_eq!(find("vit_so400m_patch16_siglip_256").unwrap().activation, GeluTanh);
        assert_eq!(find("vit_base_patch16_clip_quickgelu_224").unwrap().activation, QuickGelu);
        assert_eq!(find("vit_base_patch16_clip_224").unwrap().eps, 1e-5);
        assert_eq!(find("vit_base_patch16_gap_224").unwrap().heads, 16);
        assert_eq!(find("resnet50"), None);
    }
}
