//! The attributes `#[ltmc::agent]`, `#[ltmc::validator]` and `#[ltmc::aggregator]`: each leaves the struct as it is and appends, for wasm32
//! only, the component's export. So an author's native `cargo test` never meets the bindings.
//!
//! To add an export: a function below that names its trait and its macro in the SDK's `export.rs`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{ItemStruct, parse_macro_input};

/// Makes a struct that implements `ltmc::Agent` the component's export `agent`.
#[proc_macro_attribute]
pub fn agent(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemStruct);
    expand(&args.into(), &item, &quote!(Agent), &quote!(export_agent)).into()
}

/// Makes a struct that implements `ltmc::Validator` the component's export `validator`.
#[proc_macro_attribute]
pub fn validator(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemStruct);
    expand(&args.into(), &item, &quote!(Validator), &quote!(export_validator)).into()
}

/// Makes a struct that implements `ltmc::Aggregator` the component's export `aggregator`.
#[proc_macro_attribute]
pub fn aggregator(args: TokenStream, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as ItemStruct);
    expand(&args.into(), &item, &quote!(Aggregator), &quote!(export_aggregator)).into()
}

fn expand(args: &Tokens, item: &ItemStruct, role: &Tokens, export: &Tokens) -> Tokens {
    if !args.is_empty() {
        let why = "takes no arguments: capabilities and limits stand in Cargo.toml under [package.metadata.ltmc]";
        return syn::Error::new_spanned(args, why).into_compile_error();
    }
    if !item.generics.params.is_empty() {
        let why = "a component exports one concrete type: put the attribute on a struct without generics";
        return syn::Error::new_spanned(&item.generics, why).into_compile_error();
    }
    let name = &item.ident;
    quote! {
        #item

        const _: () = {
            // Natively too: a missing impl is told where the attribute stands.
            const fn implements<T: ::ltmc::#role>() {}
            implements::<#name>();
        };

        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, missing_docs, unused_qualifications, clippy::all, reason = "the component's generated export")]
        const _: () = {
            ::ltmc::__private::#export!(#name);
        };
    }
}
