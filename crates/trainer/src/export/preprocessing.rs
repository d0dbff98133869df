//! What happens to a picture in front of the network, as a part of the graph: from the bytes of a decoded picture of any size to the
//! normalised square.
//!
//! Levels are rounded after each of the passes, which come in the order of Pillow 13.0, as when a picture is prepared here. What is left
//! is the runtime's arithmetic, in f32 instead of fixed point: a level in a hundred may differ by one.
//!
//! Of a picture that is very long, the middle is cut out first, so that memory does not grow with the length.

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
    let mut transforms = transforms.iter().enumerate().peekable();
    while let Some((at, transform)) = transforms.next() {
        let step = Step { name: format!("transform.{at}"), graph: &mut *graph };
        levels = match *transform {
            Transform::Resize { size, interpolation } => {
                let side = size.unwrap_or(image_size);
                // In one step with the crop behind it, only what is kept is computed.
                let crop = match transforms.peek() {
                    Some((_, Transform::CenterCrop { size })) => {
                        Some(size.unwrap_or(image_size)).filter(|crop| *crop <= side)
                    }
                    _ => None,
                };
                if crop.is_some() {
                    transforms.next();
                }
                shorter = Some(crop.unwrap_or(side));
                step.resize(&levels, &Resize { shorter: side, interpolation, crop })
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

/// How many times as long as wide a picture may be for all of it to be resized before its middle is cut out, as Pillow does it: resized to
/// 256 pixels, such a picture takes 50 MB. Of longer ones only the middle is resized, and since it has another length, rounding may shift the
/// result by up to half a pixel.
const MAX_LONG: i64 = 64;

/// The side lengths of a picture, as names of values in the graph.
struct Sides {
    /// Height and width.
    sides: [String; 2],
    /// The shorter side.
    short: String,
    /// The length to which the shorter side is resized.
    target: String,
}

/// The middle of a picture.
#[derive(Default)]
struct Middle {
    levels: String,
    /// Height and width.
    sides: [String; 2],
    /// Height and width after resizing.
    new: [String; 2],
    /// How many rows and columns of the resized picture lie before the middle.
    shifts: [String; 2],
}

/// A cut along one axis.
struct Cut {
    axis: Axis,
    /// The length of the axis of the whole picture, as the name of a value.
    side: String,
    /// The length that is kept, in pixels.
    crop: u32,
    /// How much of the axis was cut off earlier, as the name of a value.
    shift: Option<String>,
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
        let are_last = self.rows_are_last(&sides, &new);
        let Some(crop) = resize.crop else {
            let first = self.first_width(&are_last, &sides[1], &new[1]);
            return self.passes(input, resize.interpolation, &first, &new);
        };
        let middle = self.middle(input, &Sides { sides, short, target });
        let first = self.first_width(&are_last, &middle.sides[1], &middle.new[1]);
        // To a length that it has already, an axis is resized at no cost worth speaking of, and stays as it is.
        let mut levels =
            self.pass(&middle.levels, Pass { name: "rows", axis: Axis::Width }, &first, resize.interpolation);
        let [rows, columns] = [Axis::Height, Axis::Width].map(|axis| {
            let place = axis as usize - 2;
            Cut { axis, side: new[place].clone(), crop, shift: Some(middle.shifts[place].clone()) }
        });
        levels = self.pass(&levels, Pass { name: "columns", axis: Axis::Height }, &middle.new[0], resize.interpolation);
        levels = self.crop_axis(&levels, &rows);
        levels =
            self.pass(&levels, Pass { name: "rows_last", axis: Axis::Width }, &middle.new[1], resize.interpolation);
        self.crop_axis(&levels, &columns)
    }

    /// Resizes both axes to their new lengths, after a first pass that resizes the width to `first`.
    fn passes(
        &mut self,
        input: &str,
        interpolation: Interpolation,
        first: &str,
        [height, width]: &[String; 2],
    ) -> String {
        let levels = self.pass(input, Pass { name: "rows", axis: Axis::Width }, first, interpolation);
        let levels = self.pass(&levels, Pass { name: "columns", axis: Axis::Height }, height, interpolation);
        self.pass(&levels, Pass { name: "rows_last", axis: Axis::Width }, width, interpolation)
    }

    /// At most [`MAX_LONG`] shorter sides from the middle of each axis. It begins at a multiple of the shorter side, which becomes a
    /// multiple of the target, so pixels stay where they were to within half a pixel.
    fn middle(&mut self, input: &str, Sides { sides, short, target }: &Sides) -> Middle {
        let [two, long] =
            [("middle.two", 2), ("middle.long", MAX_LONG)].map(|(name, value)| self.whole(name, &[value]));
        let most = self.plain("middle.most", "Mul", &[short, &long]);
        let mut middle = Middle::default();
        let mut starts = Vec::new();
        for axis in [Axis::Height, Axis::Width] {
            let place = axis as usize - 2;
            let part = |part: &str| format!("{}.middle.{part}", axis.name());
            let kept = self.plain(&part("kept"), "Min", &[&sides[place], &most]);
            let rest = self.plain(&part("rest"), "Sub", &[&sides[place], &kept]);
            let half = self.plain(&part("half"), "Div", &[&rest, &two]);
            let blocks = self.plain(&part("blocks"), "Div", &[&half, short]);
            starts.push(self.plain(&part("start"), "Mul", &[&blocks, short]));
            let product = self.plain(&part("product"), "Mul", &[target, &kept]);
            middle.new[place] = self.plain(&part("new"), "Div", &[&product, short]);
            middle.shifts[place] = self.plain(&part("shift"), "Mul", &[&blocks, target]);
            middle.sides[place] = kept;
        }
        let [start, kept] = [("middle.start", &starts[..]), ("middle.kept", &middle.sides[..])].map(|(name, parts)| {
            self.graph.node(NodeSpec {
                name: &format!("{}.{name}", self.name),
                operator: "Concat",
                inputs: &parts.iter().map(String::as_str).collect::<Vec<_>>(),
                attributes: vec![int("axis", 0)],
            })
        });
        let end = self.plain("middle.end", "Add", &[&start, &kept]);
        let axes = self.whole("middle.axes", &[Axis::Height as i64, Axis::Width as i64]);
        middle.levels = self.plain("middle", "Slice", &[input, &start, &end, &axes]);
        middle
    }

    /// The width after the first pass: the new one, or still the old one if rows are resized last.
    fn first_width(&mut self, are_last: &str, width: &str, new_width: &str) -> String {
        let lost = self.plain("lost.now", "Sub", &[width, new_width]);
        let kept = self.plain("lost.kept", "Mul", &[are_last, &lost]);
        self.plain("rows.new", "Add", &[new_width, &kept])
    }

    /// 1 if rows are resized last, and 0 if not. Pillow 13.0 resizes columns first if rows are lost, and more than twice as many as columns.
    fn rows_are_last(&mut self, [height, width]: &[String; 2], [new_height, new_width]: &[String; 2]) -> String {
        let [zero, one, two] = [("zero", 0), ("one", 1), ("two", 2)].map(|(name, value)| self.whole(name, &[value]));
        let lost_rows = self.plain("lost.rows", "Sub", &[height, new_height]);
        let lost_columns = self.plain("lost.columns", "Sub", &[width, new_width]);
        let twice = self.plain("lost.twice", "Mul", &[&lost_columns, &two]);
        let more = self.plain("lost.more", "Sub", &[&lost_rows, &twice]);
        let [loses_rows, loses_more] = [("lost.rows", &lost_rows), ("lost.more", &more)].map(|(name, value)| {
            let at_most = self.plain(&format!("{name}.at_most_one"), "Min", &[value, &one]);
            self.plain(&format!("{name}.is_positive"), "Max", &[&at_most, &zero])
        });
        self.plain("rows_are_last", "Mul", &[&loses_rows, &loses_more])
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
            levels = self.crop_axis(&levels, &Cut { axis, side, crop, shift: None });
        }
        levels
    }

    /// The middle along an axis, which begins at the difference of both lengths halved: halves go to the even number.
    fn crop_axis(&mut self, input: &str, Cut { axis, side, crop, shift }: &Cut) -> String {
        let axis = *axis;
        let part = |part: &str| format!("{}.crop.{part}", axis.name());
        let length = self.whole(&part("length"), &[i64::from(*crop)]);
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
        let start = match shift {
            Some(shift) => self.plain(&part("shifted"), "Sub", &[&start, shift]),
            None => start,
        };
        let end = self.plain(&part("end"), "Add", &[&start, &length]);
        self.plain(&part("cropped"), "Slice", &[input, &start, &end, &axes])
    }
}
