//! A runtime for ONNX that has nothing in common with the code here: tract, <https://github.com/sonos/tract>. A file is not said to be
//! good before it has given our answers.

use std::sync::Arc;

use anyhow::Context;
use tract_onnx::prelude::{
    DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, Tensor, TypedRunnableModel, tvec,
};

/// Its name and version, for reports.
pub(crate) const NAME: &str = "tract 0.23";

/// What goes in.
pub(crate) enum Input<'a> {
    /// Normalised images `[batch, 3, height, width]`.
    Images { shape: [usize; 4], values: &'a [f32] },
    /// Levels `[batch, height, width, 3]`.
    Pictures { shape: [usize; 4], levels: &'a [u8] },
}

impl Input<'_> {
    fn fact(&self) -> InferenceFact {
        let (datum, shape) = match self {
            Self::Images { shape, .. } => (DatumType::F32, shape),
            Self::Pictures { shape, .. } => (DatumType::U8, shape),
        };
        InferenceFact::dt_shape(datum, shape)
    }

    fn tensor(&self) -> anyhow::Result<Tensor> {
        Ok(match self {
            Self::Images { shape, values } => Tensor::from_shape(shape, values)?,
            Self::Pictures { shape, levels } => Tensor::from_shape(shape, levels)?,
        })
    }
}

/// A file made ready for inputs of one shape.
pub(crate) struct Runtime {
    model: Arc<TypedRunnableModel>,
}

impl Runtime {
    /// Takes the bytes of a file for inputs like `like`; `outputs` are the values to give, or those that the file says.
    pub(crate) fn parse(mut bytes: &[u8], like: &Input<'_>, outputs: Option<&[String]>) -> anyhow::Result<Self> {
        let mut prepare = || -> anyhow::Result<Self> {
            let mut model = tract_onnx::onnx().model_for_read(&mut bytes)?;
            if let Some(outputs) = outputs {
                model = model.with_outputs_by_name(outputs)?;
            }
            let model = model.with_input_fact(0, like.fact())?.into_optimized()?.into_runnable()?;
            Ok(Self { model })
        };
        prepare().with_context(|| format!("{NAME} does not take the file"))
    }

    /// The values of each output.
    pub(crate) fn run(&self, input: &Input<'_>) -> anyhow::Result<Vec<Vec<f32>>> {
        let outputs =
            self.model.run(tvec!(input.tensor()?.into())).with_context(|| format!("{NAME} does not run the file"))?;
        outputs.iter().map(|output| Ok(output.to_plain_array_view::<f32>()?.iter().copied().collect())).collect()
    }
}
