//! Components made byte by byte, for what no compiler would write.

use wasm_encoder::{Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentTypeRef};
use wasm_encoder::{ComponentTypeSection, InstanceType};

/// An empty core module.
pub fn core_module() -> Vec<u8> {
    wasm_encoder::Module::new().finish()
}

/// A component that exports nothing.
pub fn without_exports() -> Vec<u8> {
    Component::new().finish()
}

/// A component that imports an instance nobody has, and exports it as `wasi:cli/run`.
pub fn with_unknown_import() -> Vec<u8> {
    let mut component = Component::new();
    let mut types = ComponentTypeSection::new();
    types.instance(&InstanceType::new());
    component.section(&types);
    let mut imports = ComponentImportSection::new();
    imports.import("acme:secret/vault@1.0.0", ComponentTypeRef::Instance(0));
    component.section(&imports);
    let mut exports = ComponentExportSection::new();
    exports.export("wasi:cli/run@0.2.6", ComponentExportKind::Instance, 0, None);
    component.section(&exports);
    component.finish()
}
