//! What the fuzz targets share: a file in memory, MP4 files taken apart and put together, and how to play tags.
//! No code of the product is here, and no product code knows of this.

pub mod memory;
pub mod mp4;
pub mod object;
pub mod play;
