//! What happens to a picture in front of the network, as a part of the graph: from the bytes of a decoded picture of any size to the
//! normalised square.
//!
//! Levels are rounded after each of the passes, which come in the order of Pillow 13.0, as when a picture is prepared here. What is left
//! is the runtime's arithmetic, in f32 instead of fixed point: a level in a hundred may differ by one.
//!
//! A picture is resized as a whole before its middle is cut out, so one that is a thousand times as long as wide takes the memory of a
//! thousand.

use anyhow::bail;
use imageset::{Interpolation, Transform};

use super::graph::{Element, Graph, NodeSpec, float, int, ints, string};
use super::network::IMAGES;
use crate::batch::Normalization;

/// Name of the value that goes in: levels `[batch, height, width, 3]`, red, green, blue.
pub(super) const PICTURES: &str = "pictures";

/// `Resize` knows antialiasing from this version on.
pub(super) const MIN_OPSET: i64 = 18;

/// Height and width of a map, as in `[batch, channel, height, width]`.
#[derive(Clone, Copy)]
enum Axis {
    Height = 2,
    Width = 3,
}

impl Axis {
    fn name(self) -> &'static str {
        match self {
            Self::Height => "height",
            Self::Width => "width",
        }
    }
}

/// Adds the transforms and the normalisation.
pub(super) fn add(
    graph: &mut Graph,
    transforms: &[Transform],
    image_size: u32,
    normalization: &Normalization,
) -> anyhow::Result<()> {
    let planes = graph.node(NodeSpec {
        name: "planes",
        operator: "Transpose",
        inputs: &[PICTURES],
        attributes: vec![ints("perm", &[0, 3, 1, 2])],
    });
    let mut levels = graph.node(NodeSpec {
        name: "levels",
        operator: "Cast",
        inputs: &[&planes],
        attributes: vec![int("to", Element::F32 as i64)],
    });
    // The shorter side of what has been made so far, where it is known.
    let mut shorter = None;
    for (at, transform) in transforms.iter().enumerate() {
        let step = Step { name: format!("transform.{at}"), graph: &mut *graph };
        levels = match *transform {
            Transform::Resize { size, interpolation } => {
                let side = size.unwrap_or(image_size);
                shorter = Some(side);
                step.resize(&levels, &Resize { shorter: side, interpolation, crop: None })
            }
            Transform::ResizeCenterCrop { size, crop_pct, interpolation } => {
                let crop = size.unwrap_or(image_size);
                shorter = Some(crop);
                // timm: math.floor(size / crop_pct).
                let side = (f64::from(crop) / crop_pct).floor() as u32;
                step.resize(&levels, &Resize { shorter: side, interpolation, crop: Some(crop) })
            }
            Transform::CenterCrop { size } => {
                let crop = size.unwrap_or(image_size);
                if shorter.is_none_or(|shorter| shorter < crop) {
                    bail!(
                        "`center_crop` adds black to pictures that are smaller than {crop} pixels, which is not put into a graph\n\n\
                         hint: prepare the pictures outside of the graph: leave `--with-preprocessing` out"
                    );
                }
                shorter = Some(crop);
                step.crop(&levels, crop)
            }
            ref other => bail!(
                "the preprocessing has `{}`, which is not put into a graph; resizing and central crops are\n\n\
                 hint: prepare the pictures outside of the graph: leave `--with-preprocessing` out",
                other.name()
            ),
        };
    }
    let mean = graph.floats("mean", &[1, 3, 1, 1], &normalization.mean.map(|mean| mean * 255.0));
    let scale = graph.floats("scale", &[1, 3, 1, 1], &normalization.std.map(|std| 1.0 / (std * 255.0)));
    let centered = graph.plain("centered", "Sub", &[&levels, &mean]);
    graph.plain(IMAGES, "Mul", &[&centered, &scale]);
    Ok(())
}

/// A resizing of one axis.
#[derive(Clone, Copy)]
struct Pass {
    name: &'static str,
    axis: Axis,
}

struct Resize {
    /// The shorter side of the result, pixels.
    shorter: u32,
    interpolation: Interpolation,
    /// Side of the central square that is kept, pixels.
    crop: Option<u32>,
}

/// The nodes of one transform.
struct Step<'a> {
    name: String,
    graph: &'a mut Graph,
}

impl Step<'_> {
    fn named(&self, part: &str) -> String {
        format!("{}.{part}", self.name)
    }

    fn plain(&mut self, part: &str, operator: &str, inputs: &[&str]) -> String {
        let name = self.named(part);
        self.graph.plain(&name, operator, inputs)
    }

    fn whole(&mut self, part: &str, values: &[i64]) -> String {
        let name = self.named(part);
        self.graph.whole(&name, values)
    }

    /// The lengths of some axes of a value, from `start` up to `end`.
    fn shape(&mut self, part: &str, input: &str, [start, end]: [i64; 2]) -> String {
        self.graph.node(NodeSpec {
            name: &self.named(part),
            operator: "Shape",
            inputs: &[input],
            attributes: vec![int("start", start), int("end", end)],
        })
    }

    /// The shorter side to `shorter`, the longer one to `shorter * longer / shorter side`, rounded down.
    fn resize(mut self, input: &str, resize: &Resize) -> String {
        let sides =
            [Axis::Height, Axis::Width].map(|axis| self.shape(axis.name(), input, [axis as i64, axis as i64 + 1]));
        let short = self.plain("shorter", "Min", &[&sides[0], &sides[1]]);
        let target = self.whole("target", &[i64::from(resize.shorter)]);
        let new = [Axis::Height, Axis::Width].map(|axis| {
            let (product, new) = (format!("{}.product", axis.name()), format!("{}.new", axis.name()));
            let product = self.plain(&product, "Mul", &[&target, &sides[axis as usize - 2]]);
            self.plain(&new, "Div", &[&product, &short])
        });
        let first = self.first_width(&sides, &new);
        // To a length that it has already, an axis is resized at no cost worth speaking of, and stays as it is.
        let mut levels = self.pass(input, Pass { name: "rows", axis: Axis::Width }, &first, resize.interpolation);
        levels = self.pass(&levels, Pass { name: "columns", axis: Axis::Height }, &new[0], resize.interpolation);
        if let Some(crop) = resize.crop {
            levels = self.crop_axis(&levels, Axis::Height, &new[0], crop);
        }
        levels = self.pass(&levels, Pass { name: "rows_last", axis: Axis::Width }, &new[1], resize.interpolation);
        match resize.crop {
            Some(crop) => self.crop_axis(&levels, Axis::Width, &new[1], crop),
            None => levels,
        }
    }

    /// The width after the first pass: the new one, or, where many more rows than columns go away, still the old one, for then Pillow
    /// 13.0 resizes columns first: if rows are lost, and more than twice as many as columns.
    fn first_width(&mut self, [height, width]: &[String; 2], [new_height, new_width]: &[String; 2]) -> String {
        let [zero, one, two] = [("zero", 0), ("one", 1), ("two", 2)].map(|(name, value)| self.whole(name, &[value]));
        // 1 if it is so, 0 if not.
        let lost_rows = self.plain("lost.rows", "Sub", &[height, new_height]);
        let lost_columns = self.plain("lost.columns", "Sub", &[width, new_width]);
        let twice = self.plain("lost.twice", "Mul", &[&lost_columns, &two]);
        let more = self.plain("lost.more", "Sub", &[&lost_rows, &twice]);
        let [loses_rows, loses_more] = [("lost.rows", &lost_rows), ("lost.more", &more)].map(|(name, value)| {
            let at_most = self.plain(&format!("{name}.at_most_one"), "Min", &[value, &one]);
            self.plain(&format!("{name}.is_positive"), "Max", &[&at_most, &zero])
        });
        let is_last = self.plain("rows_are_last", "Mul", &[&loses_rows, &loses_more]);
        let kept = self.plain("lost.kept", "Mul", &[&is_last, &lost_columns]);
        self.plain("rows.new", "Add", &[new_width, &kept])
    }

    /// One axis to a length.
    fn pass(&mut self, input: &str, pass: Pass, side: &str, interpolation: Interpolation) -> String {
        let part = |part: &str| format!("{}.{part}", pass.name);
        let kept = match pass.axis {
            Axis::Width => vec![self.shape(&part("before"), input, [0, 3]), side.to_string()],
            Axis::Height => {
                let before = self.shape(&part("before"), input, [0, 2]);
                vec![before, side.to_string(), self.shape(&part("behind"), input, [3, 4])]
            }
        };
        let sizes = self.graph.node(NodeSpec {
            name: &self.named(&part("sizes")),
            operator: "Concat",
            inputs: &kept.iter().map(String::as_str).collect::<Vec<_>>(),
            attributes: vec![int("axis", 0)],
        });
        let mut attributes = vec![string("coordinate_transformation_mode", "half_pixel")];
        attributes.extend(match interpolation {
            // Keys' cubic convolution, with weights of pixels outside of the picture left out.
            Interpolation::Bicubic => vec![
                int("antialias", 1),
                float("cubic_coeff_a", -0.5),
                int("exclude_outside", 1),
                string("mode", "cubic"),
            ],
            Interpolation::Bilinear => {
                vec![int("antialias", 1), int("exclude_outside", 1), string("mode", "linear")]
            }
            Interpolation::Nearest => vec![string("mode", "nearest"), string("nearest_mode", "round_prefer_ceil")],
        });
        let resized = self.graph.node(NodeSpec {
            name: &self.named(&part("resized")),
            operator: "Resize",
            // Neither a region of interest nor scales.
            inputs: &[input, "", "", &sizes],
            attributes,
        });
        if interpolation == Interpolation::Nearest {
            return resized;
        }
        let [half, low, high] = [("half", 0.5), ("low", 0.0), ("high", 255.0)].map(|(name, value)| {
            let name = self.named(&part(name));
            self.graph.floats(&name, &[], &[value])
        });
        let raised = self.plain(&part("raised"), "Add", &[&resized, &half]);
        let rounded = self.plain(&part("rounded"), "Floor", &[&raised]);
        self.plain(&part("clipped"), "Clip", &[&rounded, &low, &high])
    }

    /// The central square.
    fn crop(mut self, input: &str, crop: u32) -> String {
        let mut levels = input.to_string();
        for axis in [Axis::Width, Axis::Height] {
            let side = self.shape(&format!("{}.side", axis.name()), &levels, [axis as i64, axis as i64 + 1]);
            levels = self.crop_axis(&levels, axis, &side, crop);
        }
        levels
    }

    /// The middle `crop` of `side` along an axis, which begins at their difference halved: halves go to the even number.
    fn crop_axis(&mut self, input: &str, axis: Axis, side: &str, crop: u32) -> String {
        let part = |part: &str| format!("{}.crop.{part}", axis.name());
        let length = self.whole(&part("length"), &[i64::from(crop)]);
        let axes = self.whole(&part("axis"), &[axis as i64]);
        let half = self.named(&part("half"));
        let half = self.graph.floats(&half, &[], &[0.5]);
        let border = self.plain(&part("border"), "Sub", &[side, &length]);
        let border = self.graph.node(NodeSpec {
            name: &self.named(&part("float")),
            operator: "Cast",
            inputs: &[&border],
            attributes: vec![int("to", Element::F32 as i64)],
        });
        let halved = self.plain(&part("halved"), "Mul", &[&border, &half]);
        let rounded = self.plain(&part("rounded"), "Round", &[&halved]);
        let start = self.graph.node(NodeSpec {
            name: &self.named(&part("start")),
            operator: "Cast",
            inputs: &[&rounded],
            attributes: vec![int("to", Element::I64 as i64)],
        });
        let end = self.plain(&part("end"), "Add", &[&start, &length]);
        self.plain(&part("cropped"), "Slice", &[input, &start, &end, &axes])
    }
}
